# SPDX-License-Identifier: GPL-2.0-or-later
"""Module files, as docs/spec.md 6.12 has it."""
import contextlib
import struct
import time

from .records import FAILURE, FILE, MORE, only, parse
from .rpc import call

NOT_FOUND, NOT_DIRECTORY, NOT_REGULAR, LOOP, TOO_LONG, ACCESS = 1, 2, 3, 4, 5, 6
EXISTS, NOT_EMPTY, IS_DIRECTORY, NO_SPACE, READ_ONLY, OTHER_MOUNT = 8, 9, 10, 11, 12, 14
FOLLOW, NOFOLLOW = 0, 1
NAME, MODE, SIZE, INODE, LINKS, UID, GID, DEVICE, MODIFIED, LINK = 1, 2, 3, 5, 6, 7, 8, 9, 11, 13


def ask(vm, procedure, path, *head, form="<QII", timeout=10000):
    """(status, answer) of a path, text or bytes."""
    path = path if isinstance(path, bytes) else path.encode()
    return call(vm.qmp, "files", procedure, struct.pack(form, *(head or (0, 0, 0))) + path, timeout)


def told(vm, procedure, path, select=0):
    """The fields of the only record, or the number of a failure."""
    status, answer = ask(vm, procedure, path, 0, select, 0)
    assert status == "ok", (path, status)
    ((kind, fields),), _, _ = parse(answer)
    return only(fields, 1) if kind == FAILURE else fields


def read_at(vm, path, offset=0, length=1 << 20):
    """Bytes, or the number of a failure."""
    status, answer = ask(vm, "read", path, offset, length, 0)
    assert status == "ok", (path, status)
    failed, reserved, size, _, _ = struct.unpack_from("<IIQQQ", answer)
    assert reserved == 0 and (not failed or (size == 0 and len(answer) == 32)), answer[:32]
    return failed or answer[32:]


def read_all(vm, path):
    """A whole file."""
    data = b""
    while True:
        some = read_at(vm, path, len(data))
        assert isinstance(some, bytes), (path, some)
        if not some:
            return data
        data += some


def listed(vm, path, limit=0):
    """{name: fields} of a folder, in as many answers as it takes, and how many these were."""
    found, cursor, answers = {}, 0, 0
    while True:
        status, answer = ask(vm, "list", path, cursor, 0, limit)
        assert status == "ok", (path, status)
        records, cursor, flags = parse(answer)
        answers += 1
        for kind, fields in records:
            assert kind == FILE and only(fields, NAME) not in found, fields
            found[only(fields, NAME)] = fields
        if not flags & MORE:
            return found, answers


def change(vm, procedure, path, tail=b"", offset=0, mode=0, flags=0):
    """(status, reason), and of write what was written in place of 0."""
    path = path if isinstance(path, bytes) else path.encode()
    tail = tail if isinstance(tail, bytes) else tail.encode()
    head = struct.pack("<QIHH", offset, len(path), mode, flags)
    status, answer = call(vm.qmp, "files", procedure, head + path + tail, 10000)
    if status != "ok":
        return status
    failed, written = struct.unpack("<II", answer)
    assert not (failed and written), answer
    return ("failed", failed) if failed else ("ok", written)


def done(vm, procedure, path, *more, **fields):
    """What must be done; of write, how much."""
    got = change(vm, procedure, path, *more, **fields)
    assert got[0] == "ok", (procedure, path, got)
    return got[1]


def put(vm, path, mask, mode=0, uid=0, gid=0, size=0, accessed=0, modified=0):
    """files.set, as change()."""
    head = struct.pack("<IIIIQQQ", mask, mode, uid, gid, size, accessed, modified)
    status, answer = call(vm.qmp, "files", "set", head + path.encode(), 10000)
    if status != "ok":
        return status
    failed, = struct.unpack_from("<I", answer)
    return ("failed", failed) if failed else ("ok", 0)


def refused(vm, top, *more):
    """What cannot be done in a folder that has e/b and nothing else, and why: (procedure, path, tail, reason)."""
    for procedure, path, tail, why in (
            ("create", f"{top}/e/b", b"", EXISTS), ("mkdir", f"{top}/e", b"", EXISTS), ("rmdir", f"{top}/e", b"", NOT_EMPTY),
            ("remove", f"{top}/e", b"", IS_DIRECTORY), ("rmdir", f"{top}/e/b", b"", NOT_DIRECTORY),
            ("remove", f"{top}/none", b"", NOT_FOUND), ("rename", f"{top}/none", f"{top}/x", NOT_FOUND),
            ("create", f"{top}/none/x", b"", NOT_FOUND), ("create", f"{top}/e/b/x", b"", NOT_DIRECTORY),
            ("mkdir", f"{top}/{'x' * 256}", b"", TOO_LONG), ("write", f"{top}/none", b"x", NOT_FOUND),
            ("write", f"{top}/e", b"x", NOT_REGULAR), *more):
        assert change(vm, procedure, path, tail) == ("failed", why), (procedure, path)
    assert change(vm, "rename", f"{top}/e", f"{top}/e/x")[0] == "failed"


@contextlib.contextmanager
def mute_fuse(vm, place):
    """A file system of a Linux guest there that never answers."""
    vm.guest.check(f"modprobe fuse; mkdir -p {place} && {{ mute-fuse {place} > /dev/null 2>&1 & echo $! > /tmp/mute; }} && "
                   f"for i in $(seq 100); do grep -q {place} /proc/mounts && exit; sleep 0.1; done; exit 1")
    try:
        yield
    finally:
        vm.guest.check(f"kill $(cat /tmp/mute); for i in $(seq 100); do umount {place} 2>/dev/null && break; sleep 0.1; done; "
                       f"rmdir {place}")


def race(vm, tree, secret, seconds, wanted=()):
    """Asks while tree/swap and tree/swap/a are swapped and moved out; each answer is of the tree, or none. {what: times}

    On a busy machine longer, until each of the answers that are wanted was among them.
    """
    seen = {}
    start = time.monotonic()
    while time.monotonic() < start + seconds or (set(wanted) - set(seen) and time.monotonic() < start + 6 * seconds):
        for rest in ("swap/a/b/secret", "swap/a/b/../../../swap/a/b/secret", "swap/a/secret", "swap/a/../secret",
                     "swap/a/b/../../../../../secret"):
            status, answer = ask(vm, "read", f"{tree}/{rest}", 0, 100, 0)
            assert secret not in answer, (rest, answer)
            key = status if status != "ok" else struct.unpack_from("<I", answer)[0]
            seen[key] = seen.get(key, 0) + 1
    return seen
