#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A name means what the guest's list says, and only as long as it says so. No guest runs."""
import pathlib
import struct
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from fake import ANSWER, FakeVM, Frame, only_submits  # noqa: E402
from harness import case, main  # noqa: E402
from harness.sock import ENTRY, STATUS  # noqa: E402
from tools import rvmrpc  # noqa: E402

CORE, LIST = 0, 1
MISMATCH, NO_MODULE = STATUS.index("version-mismatch"), STATUS.index("module-unavailable")
REFUSED = 8                     # exit status


class Guest:
    """The modules of a fake guest: {number: name}, each with the procedure `big`, 1.

    listed(guest) is called after each answer to core.list. generation=0: it tells none. page: entries of an answer.
    """

    def __init__(self, modules, *, generation=5, page=100, listed=None, own_status=0):
        self.modules, self.generation, self.page = modules, generation, page
        self.listed, self.own_status = listed, own_status
        self.lists, self.ran, self.told = 0, [], []

    def change(self, modules):
        """Modules come and go."""
        self.modules = modules
        self.generation += bool(self.generation)

    def _list(self, first):
        entries = [entry for number, name in sorted(self.modules.items())
                   for entry in ((1, 1, number, 0, self.generation, name), (2, 1, 1, 4, self.generation, "big"))]
        part = entries[first:first + self.page]
        return struct.pack("<II", len(entries), len(part)) + b"".join(
            ENTRY.pack(*entry[:5], entry[5].encode()) for entry in part)

    def _answer(self, frame):
        """(status, payload)"""
        self.told.append(frame.generation)
        if frame.generation and frame.generation != self.generation:
            return MISMATCH, b""
        if (frame.module, frame.procedure) == (CORE, LIST):
            self.lists += 1
            return 0, self._list(struct.unpack_from("<I", frame.payload)[0])
        if frame.module not in self.modules:
            return NO_MODULE, b""
        self.ran.append(self.modules[frame.module])
        return self.own_status, b"" if self.own_status else self.ran[-1].encode()

    def behave(self, frame, connection):
        """FakeVM's."""
        before = self.lists
        status, payload = self._answer(frame)
        if self.lists != before and self.listed:
            self.listed(self)
        connection.sendall(Frame(ANSWER, payload, cookie=frame.cookie, status=status).pack())
        return True


def call(guest, module, procedure="big"):
    """rvmrpc call."""
    with tempfile.TemporaryDirectory() as folder:
        vm = FakeVM(folder, "vm", behave=only_submits(guest.behave))
        result = rvmrpc("call", "vm", module, procedure, "-t", 10000, folder=folder)
        vm.close()
    return result


def once(modules):
    """For Guest.listed: the modules are these after the first list."""
    return lambda guest: guest.lists == 1 and guest.change(modules)


@case("a module is replaced by another with its number after its name was found: nothing of that runs")
def replaced():
    """Both have a procedure of that name and number."""
    guest = Guest({0x101: "test"}, listed=once({0x101: "other"}))
    result = call(guest, "test")
    assert result.status == REFUSED and "no such module" in result.err, result
    assert guest.ran == [] and guest.told == [0, 5, 0], vars(guest)
    # A procedure by name of a module by number, and the other way round.
    guest = Guest({0x101: "test"}, listed=once({0x101: "other"}))
    assert call(guest, "0x101").out == "other" and guest.told == [0, 5, 0, 6], vars(guest)
    guest = Guest({0x101: "test"}, listed=once({0x101: "other"}))
    assert call(guest, "test", 1).status == REFUSED and guest.ran == [], vars(guest)


@case("a module that has got another number is found anew, once")
def renumbered():
    """And called with the list's new generation."""
    guest = Guest({0x101: "test"}, listed=once({0x101: "other", 0x102: "test"}))
    result = call(guest, "test")
    assert result.status == 0 and result.out == "test", result
    assert guest.ran == ["test"] and guest.told == [0, 5, 0, 6], vars(guest)


@case("a list that changes all the time: refused in the end, and nothing ran")
def restless():
    """One try more, no loop."""
    guest = Guest({0x101: "test"}, listed=lambda guest: guest.change({0x101: "other", 0x102: "test"}))
    result = call(guest, "test")
    assert result.status == REFUSED and "change all the time" in result.err, result
    assert guest.ran == [] and guest.lists == 2, vars(guest)


@case("a procedure that says version-mismatch itself is not run twice")
def own_word():
    """The list is the same, so it was the procedure's."""
    guest = Guest({0x101: "test"}, own_status=MISMATCH)
    assert call(guest, "test").status == REFUSED
    assert guest.ran == ["test"] and guest.lists == 2, vars(guest)


@case("a list of several pages that changes between them is read anew")
def pages():
    """Its length is the same before and after."""
    guest = Guest({0x101: "test", 0x102: "more"}, page=1, listed=once({0x101: "other", 0x102: "test"}))
    result = call(guest, "test")
    assert result.status == 0 and result.out == "test", result
    assert guest.ran == ["test"] and guest.told == [0, 5, 0, 6, 6, 6, 6], vars(guest)
    guest = Guest({0x101: "test", 0x102: "more"}, page=1,
                  listed=lambda guest: guest.change(guest.modules))
    result = call(guest, "test")
    assert result.status == REFUSED and "change all the time" in result.err, result
    assert guest.ran == [] and guest.lists == 4, vars(guest)


@case("numbers, and names of a guest that tells no generation, go with none")
def none():
    """Such a guest would refuse any."""
    guest = Guest({0x101: "test"}, listed=once({0x101: "other"}))
    assert call(guest, "0x101", "1").out == "test" and guest.told == [0], vars(guest)
    guest = Guest({0x101: "test"}, generation=0)
    assert call(guest, "test").out == "test" and guest.told == [0, 0], vars(guest)


if __name__ == "__main__":
    main(guests=False)
