#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The soak's own checker: each way in which a call can be wrong is found, and what is right passes. No guest runs."""
import pathlib
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parent / "vm")]

# pylint: disable=wrong-import-position
from harness import case, main  # noqa: E402
from ledger import MS, Discrepancy, Ledger, append_line  # noqa: E402


class Book:
    """Ledgers that a case writes."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="rvmrpc-accounts-")
        self.dir = pathlib.Path(self.folder.name)
        self.ledger = Ledger(self.dir / "guest")
        self.ledger.client(1, self.dir / "one")
        self.serial = 1 << 32
        self.start = time.monotonic_ns() - 10_000 * MS

    def begin(self, ms=100):
        """A call, sent at self.start."""
        self.serial += 1
        append_line(self.dir / "one", f"b {self.serial:x} {self.start} {ms} 16\ns {self.serial:x} {self.start}\n")
        return self.serial

    def run(self, ident):
        """The guest notes it."""
        check = (ident ^ ident >> 16 ^ ident >> 32 ^ ident >> 48) & 0xffff
        append_line(self.dir / "guest", f"\nx {ident:016x} {check:04x}\n")

    def end(self, ident, status, after_ms=50, told=None):
        """Its client hears."""
        size = (self.dir / "guest").stat().st_size if told is None else told
        append_line(self.dir / "one", f"e {ident:x} {self.start + after_ms * MS} {status} {size}\n")

    def line(self, text):
        """Of the client."""
        append_line(self.dir / "one", text + "\n")

    def finds(self, what):
        """The checker stops, and says so."""
        try:
            self.ledger.finish()
        except Discrepancy as error:
            assert what in str(error), error
        else:
            raise AssertionError(f"not found: {what}")

    def passes(self, **counts):
        """It does not, and has counted."""
        self.ledger.finish()
        for name, count in counts.items():
            assert self.ledger.count[name.replace("_", "-")] == count, self.ledger.count


@case("calls that are as they should be")
def good():
    """Answered; refused; timed out, run and not; killed with its client; a line that the guest could not end."""
    book = Book()
    for status, runs in (("ok", True), ("busy", False), ("timed-out", True), ("timed-out", False), ("reset", True),
                         ("closed", True)):
        ident = book.begin()
        if runs:
            book.run(ident)
        book.end(ident, status)
    late = book.begin()
    book.end(late, "closed")
    book.run(late)
    append_line(book.dir / "guest", "\nx 00000001")
    book.run(book.begin(60000))
    orphan = book.begin(60000)
    book.ledger.check()
    book.ledger.killed(1)
    # Its server had that one in its hands.
    book.run(orphan)
    book.passes(ok=1, busy=1, timed_out=2, closed=2, killed=2, torn=1, ended=9, run=7)


@case("lost: no end")
def lost():
    """Its time is over, and its client lives; or its client has ended."""
    book = Book()
    book.begin()
    book.finds("lost")


@case("answered, and not run")
def invented():
    """Somebody else's answer, or none's."""
    book = Book()
    book.end(book.begin(), "ok")
    book.finds("answered, and not run")


@case("an answer that is another call's")
def wrong():
    """The client looks at all of it."""
    book = Book()
    ident = book.begin()
    book.run(ident)
    book.end(ident, "wrong-answer")
    book.finds("wrong-answer")


@case("doubled: run twice, at once and much later")
def doubled():
    """Whatever its end."""
    for status in ("ok", "closed"):
        book = Book()
        ident = book.begin()
        book.run(ident)
        book.end(ident, status)
        book.ledger.check()
        book.run(ident)
        book.finds("run twice")


@case("ended twice; run, and nobody asked")
def strange():
    """Neither has a call."""
    book = Book()
    ident = book.begin()
    book.end(ident, "busy")
    book.end(ident, "busy")
    book.finds("ended twice")
    book = Book()
    book.run(book.serial + 7)
    book.finds("nobody asked")


@case("run after its client was told that it is not")
def refused():
    """Never, after busy; and not long after any other end, but for that of a connection."""
    book = Book()
    ident = book.begin()
    book.end(ident, "busy")
    book.run(ident)
    book.finds("said that it is not")
    book = Book()
    ident = book.begin()
    book.end(ident, "timed-out", 101)
    # Another one ends later, and the guest had not noted the first by then.
    book.end(book.begin(5000), "cancelled", 2000)
    book.run(ident)
    book.finds("after its client was told timed-out")


@case("late: beyond its time, but for what the machine itself was late")
def late():
    """100 ms are allowed."""
    book = Book()
    book.end(book.begin(), "timed-out", 199)
    book.passes(timed_out=1)
    book = Book()
    book.end(book.begin(), "timed-out", 230)
    book.finds("130 ms after its time")
    book = Book()
    book.end(book.begin(), "timed-out", 230)
    # A sleep of the client's own, until the same moment, ended 40 ms late.
    book.line(f"c {book.start + 229 * MS} {40 * MS}")
    book.passes(timed_out=1)
    book = Book()
    excuse = book.ledger.excuse()
    excuse[0], excuse[1] = book.start + 50 * MS, book.start + 3000 * MS
    book.end(book.begin(), "timed-out", 3050)
    book.passes(timed_out=1)
    book = Book()
    excuse = book.ledger.excuse()
    excuse[0], excuse[1] = book.start - 50 * MS, book.start + 3000 * MS
    # The server received it after that, as one that was sent just before.
    book.end(book.begin(), "timed-out", 3190)
    book.passes(timed_out=1)
    book = Book()
    excuse = book.ledger.excuse(by_monitor=True)
    excuse[0], excuse[1] = book.start + 50 * MS, book.start + 3000 * MS
    book.end(book.begin(), "timed-out", 3050)
    book.finds("after its time")


@case("a state that is loaded: what was in flight when it was saved may be run again, nothing else")
def replayed():
    """The guest's time goes back, the host's does not."""
    for begins_later in (False, True):
        book = Book()
        ident = book.begin(60000)
        with book.ledger.saving():
            pass
        if begins_later:
            book.start = time.monotonic_ns()
            ident = book.begin(60000)
        book.run(ident)
        book.ledger.check()
        book.ledger.loaded()
        book.run(ident)
        for call in list(book.ledger.clients[1].open):
            book.end(call, "reset")
        if begins_later:
            book.finds("run twice")
        else:
            book.passes(reset=1)


if __name__ == "__main__":
    main(guests=False)
