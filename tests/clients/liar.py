#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that lies about its files: the command and a mount survive it, end in time, and let nothing of it into this host."""
import errno
import os
import pathlib
import signal
import struct
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from harness import Skip, case, main  # noqa: E402
from fake import SUBMIT, Fakes, procedures, record, records_answer  # noqa: E402
from tools import COMPLAINTS, RVMRPC, environment  # noqa: E402

STAT, LIST, READ, STATFS, WRITE, CREATE, MKDIR, RENAME, REMOVE, RMDIR, SYNC, SET = ((14, n) for n in range(12))
FILE, FAILURE, FILESYSTEM = 15, 16, 6
FOLDER_MODE, FILE_MODE, LINK_MODE = 0o40755, 0o100644, 0o120777
HUGE = 2**64 - 1
RESET = 12


def entry(name=None, mode=FILE_MODE, size=5, **more):
    """A record FILE."""
    fields = [(1, name)] if name is not None else []
    values = {2: mode, 3: size, 4: size, 5: 7, 6: 1, 7: 0, 8: 0, 10: 0, 11: 0, 12: 0, **{int(k[1:]): v for k, v in more.items()}}
    return record(FILE, *fields, *values.items())


def path_of(frame, head=16):
    """The path of a request."""
    return frame.payload[head:].decode()


def read_answer(data=b"", failed=0, size=None):
    """An rvmrpc_file_res and bytes."""
    return struct.pack("<IIQQQ", failed, 0, len(data) if size is None else size, 7, 0) + data


class Mounted:
    """A mount of the fake guest; it must end at once and without a complaint. ms: the time for each call."""

    def __init__(self, fakes, *options, ms=10000):
        if not os.path.exists("/dev/fuse"):
            raise Skip("this machine has no /dev/fuse")
        self.place = pathlib.Path(fakes.folder) / "mnt"
        self.place.mkdir()
        self.process = subprocess.Popen([RVMRPC, "mount", "liar:/t", self.place, "-t", str(ms), *options],
                                        env=environment(fakes.folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        line = self.process.stdout.readline()
        assert line.endswith(f"{self.place}\n"), (line, self.process.poll())
        return self.place

    def __exit__(self, *_):
        subprocess.run(["fusermount3", "-q", "-u", self.place], check=False)
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
        said = self.process.stderr.read()
        assert self.process.returncode == 0 and not any(word in said for word in COMPLAINTS), (self.process.returncode, said)
        assert not os.path.ismount(self.place)


def fails(what, *numbers):
    """With an errno."""
    try:
        what()
    except OSError as error:
        assert error.errno in numbers, error
        return
    raise AssertionError("it was done")


NAMES = [b"good", b"a/b", b"/etc", b"..", b".", b"", b"nul\0l", b"x" * 300, b"\xff\xfe", b"new\nline", b"good", None]


@case("a folder's names: with slashes, NULs, dots, none, twice, too long", timeout=90)
def names():
    """The mount shows those that a folder can have; ls shows what was told, escaped."""
    with Fakes() as fakes:
        answer = records_answer([entry(name) for name in NAMES])
        fakes.add("liar", behave=procedures({
            LIST: answer, STAT: lambda frame: records_answer([entry(mode=FOLDER_MODE if path_of(frame) == "/t" else FILE_MODE)]),
            READ: read_answer(b"hello")}))
        with Mounted(fakes) as place:
            seen = os.listdir(os.fsencode(place))
            assert {b"good", b"\xff\xfe", b"new\nline"} <= set(seen) <= {b"good", b"\xff\xfe", b"new\nline", b"x" * 300}, seen
            assert (place / "good").read_bytes() == b"hello"
        shown = fakes.run("ls", "liar", "/t")
        assert shown.status == 0 and "\0" not in shown.out and "new\nline" not in shown.out, shown


@case("lists without an end, in circles, cut, and of other things", timeout=120)
def lists():
    """In bounded time and memory."""
    with Fakes() as fakes:
        state = {"cursor": 0}

        def endless(_frame):
            state["cursor"] += 1
            return records_answer([entry(b"n%d" % state["cursor"])], state["cursor"], 1)
        now = {}
        fakes.add("liar", behave=procedures({LIST: lambda frame: now["is"](frame), STAT: records_answer([entry(mode=FOLDER_MODE)])}))
        with Mounted(fakes, ms=1000) as place:
            for what in (endless, lambda _: records_answer([entry(b"n")], 7, 1), lambda _: b"", lambda _: b"x" * 24,
                         lambda _: records_answer([entry(b"n")], count=5), lambda _: records_answer([record(FAILURE)]),
                         lambda _: records_answer([record(FAILURE, (1, 99))])):
                now["is"] = what
                start = time.monotonic()
                fails(lambda: os.listdir(place), errno.EIO, errno.ETIMEDOUT)
                assert fakes.run("ls", "liar", "/t", "-t", 1000, timeout=20).status
                assert time.monotonic() - start < 12, what
            now["is"] = lambda _: records_answer([record(FILESYSTEM, (8, 1)), record(FILE)])
            assert os.listdir(place) == []
            # What is cut before its first name is no empty folder, and what failed after some names is not whole.
            for first, then, number, status in (
                    (records_answer([], 7, 1), RESET, errno.EIO, 7), (records_answer([entry(b"n")], 7, 1), RESET, errno.EIO, 7),
                    (records_answer([], 7, 1), records_answer([record(FAILURE, (1, 6))]), errno.EACCES, 1),
                    (records_answer([entry(b"n")], 7, 1), records_answer([record(FAILURE, (1, 6))]), errno.EACCES, 1)):
                now["is"] = lambda frame, first=first, then=then: then if frame.payload[:8].strip(b"\0") else first
                fails(lambda: os.listdir(place), number)
                result = fakes.run("ls", "liar", "/t")
                assert result.status == status, (first, then, result)


@case("attributes and links that cannot be, and files that are not as long as they say", timeout=120)
def attributes():
    """No address is left, no buffer overrun, and what is not whole is said to be."""
    link = b"l" * 9000
    now = {}
    with Fakes() as fakes:
        fakes.add("liar", behave=procedures({
            STAT: lambda frame: records_answer([entry(mode=FOLDER_MODE) if path_of(frame) == "/t" else now["stat"]]),
            READ: lambda frame: now["read"](*struct.unpack_from("<QI", frame.payload)), STATFS: records_answer([record(FILESYSTEM)])}))
        with Mounted(fakes) as place:
            for number, stat in enumerate((entry(size=HUGE), entry(mode=HUGE), record(FILE), entry(mode=0), entry(k10=HUGE, k11=HUGE, k9=HUGE),
                                           entry(mode=LINK_MODE, k13=link), entry(mode=LINK_MODE, k13=b""), entry(mode=LINK_MODE, k13=b"a\0b"),
                                           entry(mode=LINK_MODE))):
                now["stat"], now["read"] = stat, lambda offset, length: read_answer(b"x" * 10)
                name = place / f"f{number}"
                for what in (os.lstat, os.readlink, os.stat, lambda path: pathlib.Path(path).read_bytes()):
                    try:
                        what(name)
                    except OSError:
                        pass
            os.statvfs(place)
            now["stat"] = entry(size=1 << 20)
            for number, read in enumerate((
                    lambda offset, length: read_answer(b"x" * (length + 1)), lambda offset, length: b"", lambda offset, length: b"x" * 31,
                    lambda offset, length: read_answer(failed=99), lambda offset, length: read_answer(failed=2**32 - 1))):
                now["read"] = read
                fails((place / f"r{number}").read_bytes, errno.EIO)
                assert fakes.run("cat", "liar", "/t/r").status in (1, 9)
            # An end before the end, and bytes by the dozen.
            now["read"] = lambda offset, length: read_answer(b"", size=1 << 20)
            assert len((place / "short").read_bytes()) <= 1 << 20
            assert fakes.run("cat", "liar", "/t/short").status == 7
            now["read"] = lambda offset, length: read_answer(b"y" * min(length, 12), size=30000)
            now["stat"] = entry(size=30000)
            assert (place / "slow").read_bytes() == b"y" * 30000


@case("cp to what is no regular file, by a link, too: it stays what it is")
def special():
    """Root's /dev/null would be a file from then on."""
    with Fakes() as fakes:
        fakes.add("liar", behave=procedures({READ: read_answer(b"hello")}))
        fifo, link = pathlib.Path(fakes.folder) / "fifo", pathlib.Path(fakes.folder) / "link"
        os.mkfifo(fifo)
        link.symlink_to(fifo)
        for to in (fifo, link):
            result = fakes.run("cp", "liar:/t/f", to)
            assert result.status == 1 and "no regular file" in result.err, result
        assert fifo.is_fifo() and link.is_symlink() and len(os.listdir(fakes.folder)) == 3, os.listdir(fakes.folder)


def one_byte(_offset, length):
    """Of many, after a while that is no call's time."""
    time.sleep(0.3)
    return read_answer(b"z" * min(length, 1), size=30000)


@case("a file that comes a byte at a time: who reads it is told, in the time that one call has", timeout=90)
def trickles():
    """No signal ends that wait."""
    with Fakes() as fakes:
        fakes.add("liar", behave=procedures({
            STAT: lambda frame: records_answer([entry(mode=FOLDER_MODE) if path_of(frame) == "/t" else entry(size=30000)]),
            READ: lambda frame: one_byte(*struct.unpack_from("<QI", frame.payload))}))
        with Mounted(fakes, ms=1000) as place:
            start = time.monotonic()
            fails((place / "f").read_bytes, errno.ETIMEDOUT, errno.EIO)
            assert time.monotonic() - start < 10


@case("writes of which too much was written, or nothing, for ever", timeout=90)
def writes():
    """No loop, no cursor beyond what was sent."""
    now = {}
    with Fakes() as fakes:
        plain = struct.pack("<II", 0, 0)
        fakes.add("liar", behave=procedures({
            STAT: lambda frame: records_answer([entry(mode=FOLDER_MODE if path_of(frame) == "/t" else FILE_MODE, size=0)]),
            CREATE: plain, RENAME: plain, REMOVE: plain, SET: plain, WRITE: lambda frame: now["is"]}))
        source = pathlib.Path(fakes.folder) / "source"
        source.write_bytes(b"0123456789")
        with Mounted(fakes, "--rw") as place:
            for answer, numbers in ((struct.pack("<II", 0, 11), [errno.EIO]), (struct.pack("<II", 0, 2**32 - 1), [errno.EIO]),
                                    (plain, [errno.ENOSPC]), (b"", [errno.EIO]), (b"x" * 9, [errno.EIO]),
                                    (struct.pack("<II", 11, 0), [errno.ENOSPC]), (struct.pack("<II", 77, 5), [errno.EIO])):
                now["is"] = answer
                fails(lambda: (place / "f").write_bytes(b"0123456789"), *numbers)
                start = time.monotonic()
                assert fakes.run("cp", source, "liar:/t/f").status in (1, 9) and time.monotonic() - start < 10
            now["is"] = struct.pack("<II", 0, 1)
            (place / "f").write_bytes(b"01234")


@case("times that nanoseconds since 1970 cannot tell: the nearest they can")
def far_times():
    """No other century."""
    sets = []
    with Fakes() as fakes:
        fakes.add("liar", behave=procedures({
            STAT: lambda frame: records_answer([entry(mode=FOLDER_MODE if path_of(frame) == "/t" else FILE_MODE)]),
            SET: lambda frame: sets.append(struct.unpack_from("<IIIIQqq", frame.payload)) or struct.pack("<II", 0, 0)}))
        with Mounted(fakes, "--rw") as place:
            for seconds in (10**10, -10**10, 1):
                os.utime(place / "f", (seconds, seconds))
    far = (2**63 - 1) // 10**9 * 10**9
    assert [(set_[5], set_[6]) for set_ in sets] == [(far, far), (-far, -far), (10**9, 10**9)], sets


@case("a mount ends with its terminal, but under nohup")
def hung_up():
    """It left a place of which nobody could do anything."""
    with Fakes() as fakes:
        fakes.add("liar", behave=procedures({STAT: records_answer([entry(mode=FOLDER_MODE)]), LIST: records_answer([entry(b"n")])}))
        mounted = Mounted(fakes)
        with mounted as place:
            mounted.process.send_signal(signal.SIGHUP)
            mounted.process.wait(20)
        place.rmdir()
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            mounted = Mounted(fakes)
        finally:
            signal.signal(signal.SIGHUP, before)
        with mounted as place:
            mounted.process.send_signal(signal.SIGHUP)
            time.sleep(1)
            assert os.listdir(place) == ["n"] and mounted.process.poll() is None


@case("a mount that cannot watch the VM says so, and does not begin")
def unwatched():
    """It ended a second later, without a word, and as if all was well."""
    queries = []

    def behave(frame, _connection):
        queries.extend([1] * (frame.kind != SUBMIT))
        # Who looks for it, three connections, and how many slots it has.
        return len(queries) > 5
    with Fakes() as fakes:
        fakes.add("liar", behave=behave)
        place = pathlib.Path(fakes.folder) / "mnt"
        place.mkdir()
        result = fakes.run("mount", "liar:/t", place, "-t", 2000)
        assert result.status == 6 and not result.out and "does not answer" in result.err and len(queries) == 6, (result, queries)


if __name__ == "__main__":
    main(guests=False)
