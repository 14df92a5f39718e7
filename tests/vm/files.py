#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's files from the host, against its own truth; and hostile paths, of which none leads out of an allowed tree."""
import hashlib
import os
import time

from harness import case, comment, main, set_parameter, shared
from harness.files import (DEVICE, GID, INODE, LINK, LINKS, LOOP, MODE, MODIFIED, NAME, NOFOLLOW, NOT_DIRECTORY, NOT_FOUND,
                           NOT_REGULAR, SIZE, TOO_LONG, UID, ask, listed, race, read_all, read_at, told)
from harness.records import FILESYSTEM, only, parse

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
        seen = race(vm, "/srv/tree", SECRET, 6)
    finally:
        vm.guest.run("kill $(cat /tmp/racer)")
    comment(str(seen))
    assert seen.get(0, 0) and seen.get("not-allowed", 0) and seen.get(NOT_FOUND, 0), seen


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
    vm.guest.sock.settimeout(1)
    try:
        heard = vm.guest.sock.recv(4096)
    except TimeoutError:
        heard = b""
    assert b"awake" not in heard, "user space runs"


if __name__ == "__main__":
    main()
