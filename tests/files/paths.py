#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's files from the host, against its own truth; and hostile paths, of which none leads out of an allowed tree."""
import hashlib
import os
import pathlib
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from harness import call, case, comment, least_seconds, main, set_parameter, shared, wait_for  # noqa: E402
from harness.files import (ACCESS, DEVICE, EXISTS, GID, INODE, IS_DIRECTORY, LINK, LINKS, LOOP, MODE, MODIFIED, NAME, NO_SPACE,  # noqa: E402
                           NOFOLLOW, NOT_DIRECTORY, NOT_FOUND, NOT_REGULAR, OTHER_MOUNT, READ_ONLY, SIZE,
                           TOO_LONG, UID, ask, change, done, listed, mute_fuse, put, race, read_all,
                           read_at, refused, told)
from harness.records import FILESYSTEM, only, parse  # noqa: E402

KERNEL = os.environ.get("RVMRPC_GUEST", "6.12")
SECRET = b"nobody's business"
# A command each: the guest's serial line takes no long ones.
SET_UP = [
    "mkdir -p /srv/tree/sub/deep /srv/list /outside/folder",
    f'printf "{SECRET.decode()}" | tee /outside/secret /outside/folder/secret > /secret',
    "cd /srv/tree && printf hello > file && chmod 640 file && dd if=/dev/urandom of=big bs=64k count=40 2>/dev/null",
    "cd /srv/tree && mkfifo fifo && mknod null c 1 3 && ln /outside/secret hard",
    "cd /srv/tree && ln -s file good && ln -s sub/../file roundabout && ln -s ../file sub/up && ln -s sub/../big biglink",
    "cd /srv/tree && ln -s /outside/secret absolute && ln -s ../../outside/secret relative && ln -s /outside outside",
    "cd /srv/tree && ln -s ../.. above && ln -s loop loop && ln -s above/outside chain && ln -s /srv/tree/file inside",
    "cd /srv/tree && ln -s / root && ln -s /dev/null device && ln -s /srv/tree /srv/link && ln -s /outside /srv/linked",
    "cd /srv/tree && ln -s /proc/self/root procroot && ln -s /proc/1/root/outside/secret procfile",
    "cd /srv/tree && mkdir bind proc tmp && mount --bind /outside bind && mount -t proc proc proc",
    "cd /srv/tree && mount -t tmpfs none tmp && echo in > tmp/file && touch bindfile && mount --bind /outside/secret bindfile",
]


def guest():
    """One for all cases."""
    vm = shared(kernel=KERNEL, smp=2, memory="384M")
    if vm.guest.run("test -d /srv/tree")[0]:
        for command in SET_UP:
            vm.guest.check(command)
    set_parameter(vm, "fs_allow", "/srv/tree:/srv/list")
    set_parameter(vm, "fs_write", "")
    return vm


def writable(trees="/srv/tree"):
    """The same, and the host may change what is in these."""
    vm = guest()
    set_parameter(vm, "fs_write", trees)
    set_parameter(vm, "allow", "default,files.*")
    return vm


@case("with no fs_allow every call is not-allowed; what is no list of folders is refused", timeout=120)
def off():
    """As the driver is loaded."""
    vm = guest()
    set_parameter(vm, "fs_allow", "")
    for path in ("/", "/srv/tree", "/srv/tree/file"):
        for procedure in ("stat", "list", "read", "statfs"):
            assert ask(vm, procedure, path)[0] == "not-allowed", (procedure, path)
    set_parameter(vm, "fs_allow", "/srv/list")
    for bad in ("srv", "/srv/", "/srv/..", "/a:", "/$(printf %01100d 0)"):
        assert vm.guest.run(f"echo \"{bad}\" > /sys/module/rvmrpc/parameters/fs_allow")[0], bad
    assert vm.guest.check("cat /sys/module/rvmrpc/parameters/fs_allow") == "/srv/list\n"
    assert ask(vm, "stat", "/srv/list")[0] == "ok" and ask(vm, "stat", "/srv/tree")[0] == "not-allowed"


@case("stat is stat(1): files, folders, links, devices")
def stat():
    """By the guest's own."""
    vm = guest()
    for path in ("/srv/tree", "/srv/tree/file", "/srv/tree/sub/deep", "/srv/tree/fifo", "/srv/tree/hard", "/srv/tree/null"):
        own = vm.guest.check(f"stat -c '%f %s %i %h %u %g %Y' {path}").split()
        got = told(vm, "stat", path)
        assert [only(got, MODE), *(only(got, key) for key in (SIZE, INODE, LINKS, UID, GID))] == [
            int(own[0], 16), *map(int, own[1:6])], (path, got, own)
        assert only(got, MODIFIED) // 10**9 == int(own[6]) and NAME not in got, got
    assert only(told(vm, "stat", "/srv/tree/null"), DEVICE) == 1 << 32 | 3
    assert DEVICE not in told(vm, "stat", "/srv/tree/file")
    link = told(vm, "stat", "/srv/tree/absolute", NOFOLLOW)
    assert only(link, LINK) == b"/outside/secret" and only(link, MODE) & 0o170000 == 0o120000, link
    for path in ("good", "roundabout", "sub/up", "./sub/../file", "sub//deep/../../file"):
        got = told(vm, "stat", f"/srv/tree/{path}")
        assert only(got, SIZE) == 5 and LINK not in got, (path, got)
    for path, why in (("none", NOT_FOUND), ("file/x", NOT_DIRECTORY), ("loop", LOOP), ("x" * 300, TOO_LONG),
                      ("sub/none/../../file", NOT_FOUND), ("file/", NOT_DIRECTORY)):
        assert told(vm, "stat", f"/srv/tree/{path}") == why, path
    ((kind, space),), _, _ = parse(ask(vm, "statfs", "/srv/tree/file")[1])
    assert kind == FILESYSTEM and only(space, 8) >= only(space, 9), space


@case("read is cat: any offset, a file of some MiB, and nothing but regular files")
def read():
    """In parts as large as a slot."""
    vm = guest()
    assert read_at(vm, "/srv/tree/file") == b"hello" and read_at(vm, "/srv/tree/file", 2, 2) == b"ll"
    assert read_at(vm, "/srv/tree/file", 5) == b"" and read_at(vm, "/srv/tree/file", 2**62) == b""
    assert read_at(vm, "/srv/tree/file", 0, 0) == b""
    own = vm.guest.check("sha256sum /srv/tree/big").split()[0]
    data = read_all(vm, "/srv/tree/biglink")
    assert hashlib.sha256(data).hexdigest() == own and len(data) == 40 << 16
    assert len(read_at(vm, "/srv/tree/big")) > 65000
    start = time.monotonic()
    for path in ("fifo", "null", "sub", ""):
        assert read_at(vm, f"/srv/tree/{path}") == NOT_REGULAR, path
    assert time.monotonic() - start < 5
    for head in ((2**63, 1, 0), (2**63 - 1, 5, 0), (0, 1, 1)):
        assert ask(vm, "read", "/srv/tree/file", *head)[0] == "garbage-args", head


@case("list is ls: 700 names, page by page; nothing is written, access times neither")
def listing():
    """Of the tmpfs that the guest runs from."""
    vm = guest()
    vm.guest.check("cd /srv/list && for i in $(seq 700); do echo $i > a-rather-long-name-of-number-$i; done; "
                   "touch -d '2001-01-01' /srv/list/* /srv/list", timeout=60)
    times = "stat -c '%n %X %Y %Z' /srv/list /srv/list/a-rather-long-name-of-number-11"
    before = vm.guest.check(times)
    names = {f"a-rather-long-name-of-number-{i + 1}" for i in range(700)}
    found, answers = listed(vm, "/srv/list")
    assert {name.decode() for name in found} == names and len(names) == 700 and answers > 1, (len(found), answers)
    some, answers = listed(vm, "/srv/list", 99)
    assert set(some) == set(found) and answers >= 8, answers
    assert only(found[b"a-rather-long-name-of-number-700"], SIZE) == 4
    assert read_at(vm, "/srv/list/a-rather-long-name-of-number-11") == b"11\n"
    after = vm.guest.check(times)
    assert after == before and vm.guest.check("ls /srv/list | wc -l") == "700\n", (before, after)
    tree = listed(vm, "/srv/tree")[0]
    assert {name.decode() for name in tree} == set(vm.guest.check("ls -A /srv/tree").split()), tree
    # What is mounted there is not told.
    assert only(tree[b"bindfile"], SIZE) == 0 and LINK not in tree[b"good"]
    assert told(vm, "list", "/srv/tree/file") == NOT_DIRECTORY and told(vm, "list", "/srv/tree/none") == NOT_FOUND
    assert ask(vm, "list", "/srv/tree", 2**63, 0, 0)[0] == "garbage-args"


# Below /srv/tree: none tells anything of what is not in it.
HOSTILE = [
    "..", "../..", "../../outside/secret", "sub/../../../outside/secret", "sub/deep/../../../tree/file", "../tree/file",
    "absolute", "relative", "outside", "outside/secret", "above", "above/secret", "above/outside/secret", "chain/secret",
    "procroot", "procroot/outside/secret", "procfile", "root", "root/secret", "device", "sub/../absolute",
    "bind", "bind/secret", "bind/folder/secret", "bindfile", "proc", "proc/self/root/outside/secret", "proc/1/cwd/secret",
    "proc/version", "proc/self/fd/0", "tmp/file", "tmp/../file", "bind/../file", "sub/deep/../../..", "./..",
    "outside/../tree/file", "above/srv/tree/file", "inside",
]


@case("hostile paths: none gets out")
def hostile():
    """By every procedure, and by words that are no paths."""
    vm = guest()
    for rest in HOSTILE:
        for procedure in ("stat", "list", "read", "statfs"):
            status, answer = ask(vm, procedure, f"/srv/tree/{rest}")
            assert status == "not-allowed", (rest, procedure, status, answer)
    garbage = [b"/srv/tree/fi\0le", b"/srv/tree\0/../../secret", b"srv/tree/file", b"\0", b"/srv/tree/../../\0secret"]
    for path in garbage:
        assert ask(vm, "read", path)[0] == "garbage-args", path[:40]
    assert ask(vm, "read", b"/srv/tree/" + 4086 * b"/")[0] == "too-big"
    outside = ["/secret", "/", "/srv", "/srv/treefile", "//srv/tree/file", "/srv/../srv/tree/file", "/srv/link/file", "/etc"]
    for path in outside:
        assert ask(vm, "read", path)[0] == "not-allowed", path
    assert ask(vm, "read", "/srv/tree/" + 2000 * "./" + "file")[0] == "ok"
    comment(f"{len(HOSTILE) + len(garbage) + len(outside)} paths")
    # A tree is not named by a link, and proc is none.
    set_parameter(vm, "fs_allow", "/srv/link:/srv/linked:/srv/tree/bind:/srv/tree/proc")
    for path in ("/srv/link/file", "/srv/link", "/srv/linked/secret", "/srv/tree/proc/version", "/srv/tree/proc"):
        assert ask(vm, "stat", path)[0] == "not-allowed", path
    # But a mount may be one of its own.
    assert read_at(vm, "/srv/tree/bind/secret") == SECRET


@case("a tree that is the root: absolute links are the guest's own, mounts are not crossed")
def whole():
    """fs_allow=/"""
    vm = guest()
    set_parameter(vm, "fs_allow", "/")
    assert read_at(vm, "/srv/tree/absolute") == SECRET and read_at(vm, "/srv/tree/inside") == b"hello"
    assert read_at(vm, "/srv/tree/../../../../secret") == SECRET
    for path in ("/proc/version", "/srv/tree/procroot/secret", "/srv/tree/procfile", "/proc", "/srv/tree/tmp/file",
                 "/dev/null", "/sys"):
        assert ask(vm, "read", path)[0] == "not-allowed", path


@case("a folder that is swapped for a link, and moved out, while it is walked", timeout=90)
def swapped():
    """For some seconds."""
    vm = guest()
    vm.guest.check("mkdir -p /srv/tree/swap/a/b /outside/a/b && echo inside > /srv/tree/swap/a/b/secret")
    vm.guest.check("cat /secret | tee /outside/a/b/secret > /outside/a/secret")
    vm.guest.check("cd /srv/tree; (while :; do mv swap swap.real; ln -s /outside swap; rm swap; mv swap.real swap; "
                   "mv swap/a /outside/moved; mv /outside/moved swap/a; done) 2>/dev/null & echo $! > /tmp/racer")
    try:
        seen = race(vm, "/srv/tree", SECRET, 6, (0, "not-allowed", NOT_FOUND))
    finally:
        vm.guest.run("kill $(cat /tmp/racer)")
    comment(str(seen))
    assert seen.get(0, 0) and seen.get("not-allowed", 0) and seen.get(NOT_FOUND, 0), seen


# ---- Changes ----

SIZE_BIT, MODE_BIT, UID_BIT, GID_BIT, ACCESSED_BIT, MODIFIED_BIT = (1 << bit for bit in range(6))
NOW = 1 << 63
KEEP = 1
NAMES = ("create", "mkdir", "remove", "rmdir", "rename")


@case("nothing is changed but in a tree of both fs_allow and fs_write, by procedures of allow=")
def write_off():
    """Each of the three alone is not enough."""
    vm = guest()
    for allow, trees, write in (("default", "/srv", "/srv/tree"), ("default,files.*", "/srv", ""),
                                ("default,files.*", "/srv/list", "/srv/tree"), ("default,files.*", "/srv", "/srv/list")):
        set_parameter(vm, "allow", allow)
        set_parameter(vm, "fs_allow", trees)
        set_parameter(vm, "fs_write", write)
        for procedure in (*NAMES, "write", "sync"):
            assert change(vm, procedure, "/srv/tree/off", "/srv/tree/x" if procedure == "rename" else b"") == "not-allowed", (
                procedure, allow, trees, write)
        assert put(vm, "/srv/tree/file", SIZE_BIT) == "not-allowed"
    assert vm.guest.run("echo srv > /sys/module/rvmrpc/parameters/fs_write")[0]
    assert vm.guest.check("cat /srv/tree/file") == "hello" and vm.guest.run("test -e /srv/tree/off")[0]


@case("create, mkdir, write, rename, remove, set, sync, as the guest sees them")
def changes():
    """By its own tools."""
    vm = writable()
    top = "/srv/tree/new"
    done(vm, "mkdir", top, mode=0o1777)
    done(vm, "create", f"{top}/a", mode=0o666)
    assert vm.guest.check(f"stat -c '%a %u %g' {top} {top}/a") == "1777 0 0\n666 0 0\n"
    data = os.urandom(3000)
    assert done(vm, "write", f"{top}/a", data, offset=5000) == 3000 and done(vm, "write", f"{top}/a", b"begin") == 5
    own = hashlib.sha256(b"begin" + bytes(4995) + data).hexdigest()
    assert vm.guest.check(f"sha256sum {top}/a").split()[0] == own
    done(vm, "sync", f"{top}/a")
    done(vm, "sync", top)
    assert put(vm, f"{top}/a", SIZE_BIT | MODE_BIT | UID_BIT | GID_BIT | MODIFIED_BIT, mode=0o640, uid=12, gid=34, size=7,
               modified=2**64 - 10**9) == ("ok", 0)
    assert vm.guest.check(f"stat -c '%a %u %g %s' {top}/a") == "640 12 34 7\n"
    assert only(told(vm, "stat", f"{top}/a"), MODIFIED) == 2**64 - 10**9
    assert put(vm, f"{top}/a", ACCESSED_BIT | MODIFIED_BIT, accessed=NOW, modified=NOW) == ("ok", 0)
    now = int(vm.guest.check("date +%s"))
    assert abs(only(told(vm, "stat", f"{top}/a"), MODIFIED) // 10**9 - now) < 60
    done(vm, "mkdir", f"{top}/d")
    done(vm, "rename", f"{top}/a", f"{top}/d/b")
    done(vm, "rename", f"{top}/d", f"{top}/e")
    assert vm.guest.check(f"cd {top} && find . | sort") == ".\n./e\n./e/b\n"
    done(vm, "create", f"{top}/c")
    assert change(vm, "rename", f"{top}/c", f"{top}/e/b", flags=KEEP) == ("failed", EXISTS)
    done(vm, "rename", f"{top}/c", f"{top}/e/b")
    refused(vm, top, ("create", "/srv/tree/good", b"", EXISTS))
    done(vm, "remove", f"{top}/e/b")
    done(vm, "rmdir", f"{top}/e")
    done(vm, "rmdir", top)
    assert vm.guest.run(f"test -e {top}")[0]


def outside(vm):
    """All that is not in the tree, and what it is."""
    return vm.guest.check("find /outside /secret /etc /srv/list -exec stat -c '%n %f %s %i %u %h %Y %Z' {} + | sort; "
                          "find /outside /secret -type f -exec sha256sum {} +", timeout=60)


@case("hostile paths: no change gets out, whatever is done", timeout=120)
def hostile_changes():
    """What is a link itself may be renamed and removed: as a name."""
    vm = writable()
    before = outside(vm)
    tried = 0
    for rest in HOSTILE:
        path = f"/srv/tree/{rest}"
        inner = [change(vm, procedure, f"{path}/x", f"{path}/y" if procedure == "rename" else b"") for procedure in NAMES]
        inner += [change(vm, "rename", "/srv/tree/file", f"{path}/x"), change(vm, "write", f"{path}/x", b"x"),
                  change(vm, "sync", f"{path}/x"), put(vm, f"{path}/x", MODE_BIT)]
        # "inside" is a link to a file of the tree, and those of bindfile, proc/version and the like lead to files.
        assert set(inner) <= {"not-allowed"}, (rest, inner)
        own = [change(vm, "write", path, b"x"), put(vm, path, SIZE_BIT), put(vm, path, MODE_BIT), change(vm, "create", path),
               change(vm, "mkdir", path)]
        assert not [got for got in own if got[0] == "ok"], (rest, own)
        tried += len(inner) + len(own)
    for path in (b"/srv/tree/a\0b", b"/srv/tree/..", b"/srv/tree/sub/.", b"/srv/tree/sub/", b"srv/tree/a", b""):
        for procedure in NAMES:
            tail = b"/srv/tree/x" if procedure == "rename" else b""
            assert change(vm, procedure, path, tail) in ("garbage-args", "not-allowed"), (path, procedure)
        assert change(vm, "rename", "/srv/tree/file", path) in ("garbage-args", "not-allowed"), path
    for path in ("/secret", "/", "/srv/tree", "/srv/list/x", "/srv/link/file", "/srv/treefile", "/etc/x"):
        assert change(vm, "create", path) == change(vm, "rename", "/srv/tree/file", path) == "not-allowed", path
    # Mount points themselves.
    for path in ("bind", "tmp", "bindfile", "proc"):
        for procedure in ("remove", "rmdir"):
            assert change(vm, procedure, f"/srv/tree/{path}") == "not-allowed", path
        assert change(vm, "rename", f"/srv/tree/{path}", "/srv/tree/x") == "not-allowed", path
        assert change(vm, "rename", "/srv/tree/file", f"/srv/tree/{path}") == "not-allowed", path
    assert outside(vm) == before
    assert vm.guest.check("cat /srv/tree/file") == "hello"
    comment(f"{tried} calls")


@case("what has another name, is set-user-ID, is special or read only is not written", timeout=120)
def guarded():
    """A hard link may be root's file elsewhere."""
    vm = writable("/srv/tree:/srv/tree/tmp:/srv/tree/ro")
    set_parameter(vm, "fs_allow", "/srv/tree:/srv/tree/tmp:/srv/tree/ro")
    vm.guest.check("cd /srv/tree && mkdir -p ro && mount -t tmpfs none ro && touch ro/file && mount -o remount,ro ro && "
                   "cp file suid && chmod 4755 suid && cp file sgid && chmod 2755 sgid && ln file twice && "
                   "mount -o remount,size=64k tmp", timeout=20)
    before = outside(vm)
    start = time.monotonic()
    for path, why in (("hard", ACCESS), ("twice", ACCESS), ("suid", ACCESS), ("sgid", ACCESS), ("fifo", NOT_REGULAR),
                      ("null", NOT_REGULAR), ("good", NOT_REGULAR), ("sub", NOT_REGULAR), ("ro/file", READ_ONLY)):
        assert change(vm, "write", f"/srv/tree/{path}", b"x") == ("failed", why), path
    for path, why in (("hard", ACCESS), ("fifo", NOT_REGULAR), ("absolute", NOT_REGULAR), ("ro/file", READ_ONLY)):
        assert put(vm, f"/srv/tree/{path}", MODE_BIT, mode=0o777) == ("failed", why), path
    assert put(vm, "/srv/tree/suid", SIZE_BIT) == ("failed", ACCESS) and put(vm, "/srv/tree/sub", SIZE_BIT) == ("failed", IS_DIRECTORY)
    # A new owner takes that away.
    assert put(vm, "/srv/tree/suid", UID_BIT, uid=1) == ("ok", 0)
    assert vm.guest.check("stat -c '%a %u' /srv/tree/suid") == "755 1\n"
    for path in ("x", "file"):
        assert change(vm, "create", f"/srv/tree/ro/{path}")[0] == "failed"
    assert change(vm, "remove", "/srv/tree/ro/file") == ("failed", READ_ONLY)
    assert change(vm, "rename", "/srv/tree/suid", "/srv/tree/tmp/suid") == ("failed", OTHER_MOUNT)
    done(vm, "create", "/srv/tree/tmp/full")
    written = sum(done(vm, "write", "/srv/tree/tmp/full", bytes(3000), offset=at) for at in range(0, 30000, 3000))
    assert written == 30000 and change(vm, "write", "/srv/tree/tmp/full", bytes(3000), offset=10**6)[0] == "ok"
    got = [change(vm, "write", "/srv/tree/tmp/full", bytes(3900), offset=at) for at in range(10**6, 10**6 + 10**5, 3900)]
    assert ("failed", NO_SPACE) in got, got
    assert time.monotonic() - start < 30 and outside(vm) == before
    vm.guest.check("cd /srv/tree && umount ro && rmdir ro && rm twice suid sgid tmp/full")


@case("a file system that is frozen makes a change busy, and takes no worker", timeout=60)
def frozen():
    """As it is while a host makes a copy of its disk; an ext4, since a tmpfs cannot be frozen."""
    vm = writable("/srv/tree/ext")
    set_parameter(vm, "fs_allow", "/srv/tree/ext")
    vm.guest.check("modprobe -a crc32c_generic ext4 loop && dd if=/dev/zero of=/tmp/image bs=1M count=8 2>/dev/null && "
                   "mke2fs -F /tmp/image > /dev/null && mkdir /srv/tree/ext && mount -o loop /tmp/image /srv/tree/ext", timeout=30)
    done(vm, "create", "/srv/tree/ext/file", mode=0o600)
    vm.guest.check("fsfreeze --freeze /srv/tree/ext")
    try:
        for procedure in (*NAMES, "write"):
            tail = b"/srv/tree/ext/x" if procedure == "rename" else b""
            assert change(vm, procedure, "/srv/tree/ext/file", tail) == "busy", procedure
        assert put(vm, "/srv/tree/ext/file", SIZE_BIT) == "busy"
        assert only(told(vm, "stat", "/srv/tree/ext/file"), SIZE) == 0
    finally:
        vm.guest.check("fsfreeze --unfreeze /srv/tree/ext")
    assert done(vm, "write", "/srv/tree/ext/file", b"thawed") == 6
    done(vm, "sync", "/srv/tree/ext/file")
    assert vm.guest.check("cat /srv/tree/ext/file") == "thawed"
    vm.guest.check("umount /srv/tree/ext && rmdir /srv/tree/ext")


@case("a folder that is swapped for a link while it is written into", timeout=90)
def write_race():
    """For some seconds; whatever is made is in the tree."""
    vm = writable()
    vm.guest.check("mkdir -p /srv/tree/turn/in /outside/in && echo inside > /srv/tree/turn/in/keep && "
                   "cat /secret | tee /outside/in/keep > /outside/in/gone")
    before = outside(vm)
    vm.guest.check("cd /srv/tree; (while :; do mv turn turn.real; ln -s /outside turn; ln -s ../../outside turn.2; mv -T turn.2 turn; "
                   "rm turn; mv turn.real turn; done) 2>/dev/null & echo $! > /tmp/racer")
    seen = {}
    start = time.monotonic()
    try:
        number = 0
        while time.monotonic() < start + 6 or (
                (seen.get("ok", 0) < 10 or not seen.get("not-allowed")) and time.monotonic() < start + 30):
            number += 1
            name = f"/srv/tree/turn/in/n{number}"
            for got in (change(vm, "create", name), change(vm, "write", "/srv/tree/turn/in/keep", b"by the host"),
                        change(vm, "mkdir", f"{name}.d"), change(vm, "rename", "/srv/tree/turn/in/gone", name),
                        change(vm, "remove", "/srv/tree/turn/in/gone"), change(vm, "rmdir", f"{name}.d"),
                        change(vm, "remove", name), put(vm, "/srv/tree/turn/in/keep", MODE_BIT, mode=0o600)):
                got = got if isinstance(got, str) else got[0] + str(got[1] if got[0] == "failed" else "")
                seen[got] = seen.get(got, 0) + 1
    finally:
        vm.guest.run("kill $(cat /tmp/racer)")
    comment(str(seen))
    assert outside(vm) == before
    assert seen.get("ok", 0) >= 10 and seen.get("not-allowed", 0), seen
    vm.guest.run("cd /srv/tree; rm -rf turn turn.real turn.2")


@case("a tree that hangs costs its own calls: other trees and all else answer", timeout=120)
def hung():
    """A FUSE that never answers; and its calls come back when it goes."""
    vm = guest()
    set_parameter(vm, "fs_allow", "/srv/tree:/srv/mute")
    with mute_fuse(vm, "/srv/mute"):
        # Two of three workers at most, which begin before the deadline; the others are told at once.
        got = [ask(vm, "list", "/srv/mute", timeout=3000)[0] for _ in range(4)]
        assert got == ["timed-out", "timed-out", "busy", "busy"], got
        assert read_at(vm, "/srv/tree/file") == b"hello" and len(read_all(vm, "/srv/tree/big")) == 40 << 16
        assert least_seconds(lambda: vm.qmp.cmd("guest-meminfo"), 2) < 2
    wait_for(lambda: ask(vm, "stat", "/srv/mute", timeout=2000)[0] == "ok", 10, "workers that have come back")


@case("with every process stopped", timeout=60)
def stopped():
    """The last one: the guest says nothing any more."""
    vm = guest()
    vm.guest.check("echo 1234 > /srv/list/last")
    own = vm.guest.check("cat /srv/list/* | wc -c", timeout=60).strip()
    vm.guest.sock.sendall(b"kill -STOP -1; kill -STOP $$; echo a''wake\n")
    time.sleep(0.5)
    assert read_at(vm, "/srv/tree/file") == b"hello" and len(read_all(vm, "/srv/tree/big")) == 40 << 16
    found = listed(vm, "/srv/list")[0]
    assert sum(only(f, SIZE) for f in found.values()) == int(own), own
    assert b"awake" not in vm.guest.heard(1), "user space runs"


if __name__ == "__main__":
    main()
