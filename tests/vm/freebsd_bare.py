#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A FreeBSD kernel without a user space: what looks after a guest, on UFS, with a disk that hangs; what it tells by itself; and
its files, by paths that are hostile, and a program of it that serves.

RVMRPC_FREEBSD_BARE  a kernel, as its build has it (ELF, amd64, before 14), with FFS, virtio_blk and uart
RVMRPC_FREEBSD_KLD   folder with the rvmrpc.ko and rvmrpc_test_mod.ko for it, and its own nullfs.ko if there is one

makefs(8), clang and lld make the rest. Without a kernel every case is skipped.
"""
import base64
import os
import pathlib
import random
import re
import shutil
import struct
import subprocess
import tempfile
import time

from harness import TOP, VM, Skip, call, call_args, case, comment, main, shared, wait_for
from harness.files import (ACCESS, DEVICE, EXISTS, GID, IS_DIRECTORY, LINK, LOOP, MODE, MODIFIED, NOFOLLOW, NOT_DIRECTORY,
                           NOT_FOUND, NOT_REGULAR, SIZE, TOO_LONG, UID, ask, change, done, listed,
                           put, race, read_all, read_at, refused, told)
from harness.records import DISK, INTERFACE, LOG, MORE, TASK, VMSTAT, only, page, parse, records

KERNEL = os.environ.get("RVMRPC_FREEBSD_BARE")
KLD = os.environ.get("RVMRPC_FREEBSD_KLD", "")
NULLFS = (pathlib.Path(KLD) / "nullfs.ko").exists()    # a mount more that a freeze skips
SOURCES = pathlib.Path(__file__).resolve().parent / "freebsd-bare"
TMP = tempfile.TemporaryDirectory(prefix="rvmrpc-bare-")
MEMORY = 512 << 20
LONG = "a-rather-long-name-of-number-"
BIG = random.Random(1).randbytes(3 << 20)
SECRET = b"nobody's business"
LINKS = {"good": "file", "roundabout": "sub/../file", "sub/up": "../file", "sub/biglink": "../big", "absolute": "/outside/secret",
         "relative": "../../outside/secret", "outside": "/outside", "above": "../..", "loop": "loop", "chain": "above/outside",
         "inside": "/srv/tree/file", "root": "/", "device": "/dev/null"}
# The kernel's own, of its file systems' order at a shutdown, is known.
COMPLAINT = re.compile(r"panic: (?!kdb_sysctl_panic)|Fatal trap|KDB: enter|Sleeping .* with|could sleep with|leaked|rvmrpc.*reversal")
TARGET = ["clang", "--target=x86_64-unknown-freebsd12.1", "-O1", "-ffreestanding", "-fno-stack-protector", "-fno-builtin", "-c"]


def run(*words):
    """One of the tools, in the temporary folder."""
    subprocess.run(words, check=True, cwd=TMP.name, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def flatten():
    """The kernel as it lies in memory, from 2 MiB on; its entry, and the first page behind it."""
    elf = pathlib.Path(KERNEL).read_bytes()
    entry, headers = struct.unpack_from("<QQ", elf, 24)
    count, = struct.unpack_from("<H", elf, 56)
    flat, end = bytearray(), 0
    for i in range(count):
        kind, _, offset, _, place, size, memory, _ = struct.unpack_from("<IIQQQQQQ", elf, headers + 56 * i)
        if kind != 1:
            continue
        at = place - 0x200000
        flat.extend(bytes(max(0, at + size - len(flat))))
        flat[at:at + size] = elf[offset:offset + size]
        end = max(end, place + memory)
    (pathlib.Path(TMP.name) / "kernel.bin").write_bytes(flat)
    return entry, (end + 0xfff) & ~0xfff


def make_files(srv, outside):
    """What module files is to find, and what it is not."""
    for name in ("tree/sub/deep", "tree/swap/a/b", "tree/tmp", "tree/dev", "tree/bind", "tmp"):
        (srv / name).mkdir(parents=True)
    (outside / "a/b").mkdir(parents=True)
    for name in ("secret", "a/secret", "a/b/secret"):
        (outside / name).write_bytes(SECRET)
    tree = srv / "tree"
    (tree / "swap/a/b/secret").write_text("inside")
    (tree / "file").write_text("hello")
    (tree / "file").chmod(0o640)
    (tree / "big").write_bytes(BIG)
    os.mkfifo(tree / "fifo")
    (tree / "hard").write_text("twice")
    os.link(tree / "hard", outside / "hard")
    (tree / "suid").write_text("root's")
    (tree / "suid").chmod(0o4755)
    for name, target in LINKS.items():
        (tree / name).symlink_to(target)
    (srv / "linked").symlink_to("/outside")


def make():
    """boot.bin and disk.img."""
    folder = pathlib.Path(TMP.name)
    entry, meta = flatten()
    run("clang", "--target=x86_64-unknown-none", "-c", f"-DENTRY={entry:#x}", f"-DMETA={meta:#x}", f"-DMEMORY={MEMORY:#x}",
        SOURCES / "boot.S", "-o", "boot.o")
    run("ld.lld", "-Ttext=0x100000", "--oformat=binary", "-e", "0x100000", "boot.o", "-o", "boot.bin")
    run(*TARGET, f"-I{TOP}/include", SOURCES / "init.c", "-o", "init.o")
    for name in ("sbin", "dev"):
        (folder / "root" / name).mkdir(parents=True)
    make_files(folder / "root/srv", folder / "root/outside")
    run("ld.lld", "-m", "elf_x86_64_fbsd", "-static", "-e", "_start", "init.o", "-o", "root/sbin/init")
    for module in pathlib.Path(KLD).glob("*.ko"):
        shutil.copy(module, folder / "root")
    run("makefs", "-t", "ffs", "-B", "little", "-s", "32m", "-o", "version=2", "disk.img", "root")


class Bare(VM):
    """Up once its first process has had the driver loaded and something written."""

    def __init__(self):
        super().__init__(kernel=None, memory=f"{MEMORY >> 20}M", smp=2)

    def _boot_args(self):
        if not (pathlib.Path(TMP.name) / "disk.img").exists():
            make()
        return ["-kernel", f"{TMP.name}/boot.bin", "-no-reboot",
                "-drive", f"file={TMP.name}/disk.img,if=virtio,format=raw,snapshot=on"]

    def boot(self, timeout=120.0):
        self.start()
        wait_for(lambda: self.written() > 3, timeout, "the guest's writer")
        self.wait_state("connected", 30)
        return self

    def written(self):
        """How often the guest's writer was done."""
        return max(map(int, re.findall(r"^written (\d+)", self.console(), re.M)), default=0)

    def complaints_now(self):
        return [line for line in self.console().splitlines() if COMPLAINT.search(line)]

    def throttle(self, rate):
        """Bytes a second that the guest's disk does; 0: as many as it can."""
        disk, = self.qmp.cmd("query-block")
        self.qmp.cmd("block_set_io_throttle", {"device": disk["device"], "bps": rate, "bps_rd": 0, "bps_wr": 0,
                                               "iops": 0, "iops_rd": 0, "iops_wr": 0})


def guest():
    """One for all cases; the last one ends it."""
    if not KERNEL:
        raise Skip("RVMRPC_FREEBSD_BARE names no kernel")
    if not shutil.which("makefs"):
        raise Skip("no makefs")
    return shared(Bare)


def freeze_state(vm, procedure, data=None, timeout=20000):
    """(status, state, count, skipped, lost, left in ms)."""
    status, answer = call(vm.qmp, "freeze", procedure, data, timeout)
    return (status, *struct.unpack("<6I", answer)[:5]) if status == "ok" else (status,)


def freeze_for(timeout):
    """Its argument."""
    return struct.pack("<II", timeout, 0)


@case("the driver is loaded, unloaded and loaded; every list answers", timeout=150)
def lists():
    """What there is in such a guest."""
    vm = guest()
    assert vm.console().count("rvmrpc0: detached") == 2 and "kldunload -" not in vm.console()
    assert "open 2" in vm.console() and "held -16" in vm.console()
    root, = [f for _, f in records(vm.qmp, "fs", "list") if only(f, 1) == "/"]
    assert (only(root, 1), only(root, 3), only(root, 6)) == ("/", "ufs", 0) and only(root, 8) > only(root, 9) > 0, root
    assert "lo0" in [only(f, 2) for kind, f in records(vm.qmp, "net", "list") if kind == INTERFACE]
    (kind, vmstat), = records(vm.qmp, "pressure", "vmstat")
    assert kind == VMSTAT and only(vmstat, 2) > 0, vmstat
    disk, = [f for kind, f in records(vm.qmp, "pressure", "disks") if kind == DISK]
    assert only(disk, 1) == "vtbd0" and only(disk, 7) > 0 and only(disk, 9) > 0, disk
    log = [f for kind, f in records(vm.qmp, "klog", "read") if kind == LOG]
    assert [only(f, 1) for f in log] == list(range(1, len(log) + 1)), log
    assert any("rvmrpc0: connected" in only(f, 5) for f in log)


@case("tasks.list: more than fit into an answer, in order; the idle CPUs' is none")
def tasks():
    """By page, by memory, by time."""
    vm = guest()
    got = [f for kind, f in records(vm.qmp, "tasks", "list") if kind == TASK]
    pids = [only(f, 1) for f in got]
    assert pids == sorted(set(pids)) and pids[:2] == [0, 1], pids
    assert sum(only(f, 3) == "init" for f in got) == 106 and "idle" not in [only(f, 3) for f in got]
    first, following, flags = page(vm.qmp, "tasks", "list")
    assert len(first) == 64 and flags == MORE and following == only(first[-1][1], 1) + 1, (len(first), following, flags)
    assert [only(f, 1) for _, f in records(vm.qmp, "tasks", "list", limit=7)] == pids
    sleeper = got[-2]
    assert (only(sleeper, 4), only(sleeper, 13), only(sleeper, 5)) == ("S", "nanslp", 1) and only(sleeper, 9) > 0, sleeper
    for select, key in ((1, 9), (2, 10)):
        most = [only(f, key) for _, f in page(vm.qmp, "tasks", "list", select=select)[0] if key in f]
        assert most == sorted(most, reverse=True) and len(most) > 10, most
    assert records(vm.qmp, "tasks", "blocked") == []


@case("freeze: nothing is written until thaw, or the guest's own deadline", timeout=120)
def freeze():
    """Who waits is in tasks.blocked."""
    vm = guest()
    # The image's inodes have no generation: whoever sees one first has it written.
    assert read_at(vm, "/srv/tree/file") == b"hello" and told(vm, "stat", "/srv/tree/good")
    assert freeze_state(vm, "freeze", freeze_for(60000))[:3] == ("ok", 2, 1)
    before = vm.written()
    time.sleep(2)
    assert vm.written() <= before + 1, "it was written"
    (_, writer), = records(vm.qmp, "tasks", "blocked")
    assert (only(writer, 4), only(writer, 13)) == ("D", "suspfs"), writer
    assert freeze_state(vm, "freeze", freeze_for(1000)) == ("busy",)
    assert read_at(vm, "/srv/tree/file") == b"hello" and told(vm, "stat", "/srv/tree/good"), "reading is no writing"
    assert set_text(vm, "dev.rvmrpc.0.fs_write", "/srv/tree") == "ok"
    assert change(vm, "write", "/srv/tree/file", b"hello") == change(vm, "create", "/srv/tree/x") == "busy"
    assert freeze_state(vm, "thaw")[:5] == ("ok", 0, 1, NULLFS, 0)
    wait_for(lambda: vm.written() > before + 1, 10, "the writer")
    assert freeze_state(vm, "freeze", freeze_for(1500))[:3] == ("ok", 2, 1)
    before = vm.written()
    wait_for(lambda: vm.written() > before + 1, 10, "the writer, with nobody's help")
    assert freeze_state(vm, "status")[:3] == ("ok", 3, 0)


@case("a disk that hangs: what does not need it answers, freezing ends when the disk is back", timeout=150)
def hung():
    """One that is being frozen longer than it may is thawed at once after."""
    vm = guest()
    vm.throttle(1)
    time.sleep(2)
    assert freeze_state(vm, "freeze", freeze_for(2000), 1000) == ("timed-out",)
    assert call(vm.qmp, "control", "sync", timeout=1000)[0] == "timed-out"
    assert call(vm.qmp, "control", "sync", timeout=1000)[0] == "busy"
    start = time.monotonic()
    for module, procedure in (("tasks", "list"), ("tasks", "blocked"), ("klog", "read"), ("net", "list"), ("clock", "read"),
                              ("pressure", "vmstat"), ("freeze", "status")):
        assert call(vm.qmp, module, procedure, timeout=2000)[0] == "ok", (module, procedure)
    comment(f"{time.monotonic() - start:.2f} s")
    disk, = [f for kind, f in records(vm.qmp, "pressure", "disks") if kind == DISK]
    assert only(disk, 11) > 0, disk
    time.sleep(1)
    assert freeze_state(vm, "status")[1] == 1
    vm.throttle(0)
    wait_for(lambda: freeze_state(vm, "status")[1:3] == (0, 0), 20, "the end of freezing")
    before = vm.written()
    wait_for(lambda: vm.written() > before + 1, 20, "the writer")
    assert freeze_state(vm, "freeze", freeze_for(5000))[:3] == ("ok", 2, 1)
    assert freeze_state(vm, "thaw")[:5] == ("ok", 0, 1, NULLFS, 0)
    vm.throttle(1)
    assert ask(vm, "read", "/srv/tree/big", 1 << 20, 65536, 0, timeout=1000)[0] == "timed-out"
    assert read_at(vm, f"/srv/tmp/{LONG}007") == b"007"
    vm.throttle(0)
    wait_for(lambda: ask(vm, "read", "/srv/tree/big", 1 << 20, 65536, 0, timeout=1000)[0] == "ok", 20, "the file")


@case("clock.set, control.sync, reclaim.shrink; what FreeBSD has not")
def rest():
    """Each by what it answers."""
    vm = guest()
    (_, fields), = records(vm.qmp, "clock", "read")
    status, data = call(vm.qmp, "clock", "set", struct.pack("<QQ", only(fields, 1) + 3600 * 10**9, only(fields, 3)), 5000)
    assert status == "ok" and abs(struct.unpack("<q", data[8:])[0] - struct.unpack("<q", data[:8])[0] - 3600 * 10**9) < 10**7
    (_, later), = records(vm.qmp, "clock", "read")
    assert abs(only(later, 1) - only(fields, 1) - only(later, 3) + only(fields, 3) - 3600 * 10**9) < 10**7, (fields, later)
    assert call(vm.qmp, "control", "sync", timeout=10000) == ("ok", b"")
    status, data = call(vm.qmp, "reclaim", "shrink", struct.pack("<Q", 1 << 40), 10000)
    freed, reclaimed, end, _ = struct.unpack("<QQII", data)
    assert status == "ok" and end == 1 and freed == reclaimed < 64 << 20, (freed, reclaimed, end)
    assert call(vm.qmp, "reclaim", "compact")[0] == "procedure-unavailable"
    assert call(vm.qmp, "control", "sysrq", struct.pack("<II", ord("m"), 0))[0] == "procedure-unavailable"
    assert records(vm.qmp, "pressure", "psi") == []


def set_variable(vm, name, value, timeout=5000):
    """The status of having the guest set one of its integers."""
    return call(vm.qmp, "test", "set", struct.pack("<I", value) + name.encode(), timeout)[0]


def set_text(vm, name, text):
    """The status of having the guest set one of its texts."""
    return call(vm.qmp, "test", "set-text", struct.pack("<I", len(name)) + name.encode() + text.encode(), 5000)[0]


def heard(vm, match):
    """The next event of the guest's that matches."""
    return vm.qmp.wait_event("GUEST_KERNEL_EVENT", 10, match)["data"]


@case("files: stat, read, list and statfs, of UFS and of a tmpfs", timeout=60)
def files():
    """By what was put there."""
    vm = guest()
    for path, mode, size in (("file", 0o100640, 5), ("good", 0o100640, 5), ("roundabout", 0o100640, 5), ("sub/up", 0o100640, 5),
                             ("sub//deep/./../../file", 0o100640, 5), ("big", 0o100644, len(BIG)), ("", 0o40755, None),
                             ("sub/", 0o40755, None), ("fifo", 0o10644, 0)):
        got = told(vm, "stat", f"/srv/tree/{path}")
        assert only(got, MODE) == mode and size in (None, only(got, SIZE)) and LINK not in got, (path, got)
    link = told(vm, "stat", "/srv/tree/absolute", NOFOLLOW)
    assert only(link, LINK) == b"/outside/secret" and only(link, MODE) & 0o170000 == 0o120000, link
    for path, why in (("none", NOT_FOUND), ("file/x", NOT_DIRECTORY), ("file/", NOT_DIRECTORY), ("loop", LOOP),
                      ("x" * 300, TOO_LONG), ("sub/none/../../file", NOT_FOUND), ("y/" * 200, NOT_FOUND)):
        assert told(vm, "stat", f"/srv/tree/{path}") == why, path
    assert read_at(vm, "/srv/tree/file", 2, 2) == b"ll" and read_at(vm, "/srv/tree/file", 5) == b""
    assert read_all(vm, "/srv/tree/sub/biglink") == BIG
    start = time.monotonic()
    for path in ("fifo", "sub", ""):
        assert read_at(vm, f"/srv/tree/{path}") == NOT_REGULAR, path
    assert time.monotonic() - start < 5
    for limit, answers in ((0, 2), (99, 8)):
        found, took = listed(vm, "/srv/tmp", limit)
        assert set(found) == {f"{LONG}{i:03}".encode() for i in range(700)} and took >= answers, (len(found), took)
    tree = listed(vm, "/srv/tree")[0]
    names = {"file", "big", "fifo", "hard", "suid", "sub", "swap", "tmp", "dev", "bind", *(n for n in LINKS if "/" not in n)}
    assert {name.decode() for name in tree} == names, tree
    assert DEVICE not in tree[b"file"] and only(tree[b"good"], MODE) & 0o170000 == 0o120000
    assert told(vm, "list", "/srv/tree/file") == NOT_DIRECTORY and told(vm, "list", "/srv/tree/none") == NOT_FOUND
    ((_, space),), _, _ = parse(ask(vm, "statfs", "/srv/tree/file")[1])
    assert only(space, 8) >= only(space, 9) > 0, space


# Below /srv/tree: none tells anything of what is not in it.
HOSTILE = [
    "..", "../..", "../../outside/secret", "sub/../../../outside/secret", "sub/deep/../../../tree/file", "../tree/file", "./..",
    "absolute", "relative", "outside", "outside/secret", "above", "above/secret", "above/outside/secret", "chain/secret",
    "root", "root/outside/secret", "device", "inside", "sub/../absolute", "sub/deep/../../..", "outside/../tree/file",
    "above/srv/tree/file", "tmp", "tmp/file", "tmp/../file", "dev", "dev/null", "dev/fd/0", "dev/../file",
]


@case("files: hostile paths: none gets out; what may be read is the guest's to say", timeout=60)
def hostile():
    """By every procedure, and by words that are no paths."""
    vm = guest()
    inside = HOSTILE + ["bind", "bind/secret", "bind/../file"] * NULLFS
    for rest in inside:
        for procedure in ("stat", "list", "read", "statfs"):
            status, answer = ask(vm, procedure, f"/srv/tree/{rest}")
            assert status == "not-allowed", (rest, procedure, status, answer)
    garbage = (b"/srv/tree/fi\0le", b"srv/tree/file", b"\0")
    for path in garbage:
        assert ask(vm, "read", path)[0] == "garbage-args", path
    outside = ("/outside/secret", "/", "/srv", "/srv/treefile", "//srv/tree/file", "/srv/../srv/tree/file", "/srv/linked/secret")
    for path in outside:
        assert ask(vm, "read", path)[0] == "not-allowed", path
    comment(f"{len(inside) + len(garbage) + len(outside)} paths")
    # A tree is not named by a link, and devfs is none. But a mount may be one of its own.
    assert set_text(vm, "dev.rvmrpc.0.fs_allow", "/srv/linked:/dev:/srv/tree/dev:/srv/tree/tmp:/srv/tree/bind") == "ok"
    for path in ("/srv/linked/secret", "/srv/linked", "/dev/null", "/dev", "/srv/tree/dev/null"):
        assert ask(vm, "stat", path)[0] == "not-allowed", path
    assert read_at(vm, "/srv/tree/tmp/file") == b"in\n"
    assert read_at(vm, "/srv/tree/bind/secret") == (SECRET if NULLFS else NOT_FOUND)
    assert not NULLFS or ask(vm, "read", "/srv/tree/bind/../tree/file")[0] == "not-allowed"
    # The root: absolute links are the guest's own, mounts are not crossed.
    assert set_text(vm, "dev.rvmrpc.0.fs_allow", "/") == "ok"
    assert read_at(vm, "/srv/tree/absolute") == SECRET and read_at(vm, "/srv/tree/inside") == b"hello"
    assert read_at(vm, "/srv/tree/../../../../outside/secret") == SECRET
    for path in ("/dev/null", "/srv/tree/device", "/srv/tree/tmp/file", "/srv/tmp"):
        assert ask(vm, "read", path)[0] == "not-allowed", path
    for bad in ("srv", "/srv/", "/srv/..", "/a:", "/" + 1100 * "0"):
        assert set_text(vm, "dev.rvmrpc.0.fs_allow", bad) == "system-error", bad
    assert read_at(vm, "/srv/tree/file") == b"hello"
    assert set_text(vm, "dev.rvmrpc.0.fs_allow", "") == "ok"
    assert ask(vm, "read", "/srv/tree/file")[0] == "not-allowed"
    assert set_text(vm, "dev.rvmrpc.0.fs_allow", "/srv/tree:/srv/tmp") == "ok"


@case("files: create, mkdir, write, rename, remove, set and sync, on UFS and a tmpfs, where the guest lets it", timeout=90)
def changes():
    """What becomes of them is read; nothing is changed elsewhere."""
    vm = guest()
    assert change(vm, "create", "/srv/tree/new") == "not-allowed"
    assert set_text(vm, "dev.rvmrpc.0.fs_write", "/srv/tree:/srv/tmp") == "ok"
    for top in ("/srv/tree/new", "/srv/tmp/new"):
        done(vm, "mkdir", top, mode=0o1777)
        done(vm, "create", f"{top}/a", mode=0o666)
        assert [only(told(vm, "stat", path), MODE) for path in (top, f"{top}/a")] == [0o41777, 0o100666]
        assert done(vm, "write", f"{top}/a", BIG[:3000], offset=5000) == 3000 and done(vm, "write", f"{top}/a", b"begin") == 5
        assert read_all(vm, f"{top}/a") == b"begin" + bytes(4995) + BIG[:3000]
        done(vm, "sync", f"{top}/a")
        done(vm, "sync", top)
        assert put(vm, f"{top}/a", 0x2f, mode=0o640, uid=12, gid=34, size=7, modified=2**64 - 2 * 10**9) == ("ok", 0)
        got = told(vm, "stat", f"{top}/a")
        assert [only(got, key) for key in (MODE, UID, GID, SIZE, MODIFIED)] == [0o100640, 12, 34, 7, 2**64 - 2 * 10**9], got
        done(vm, "mkdir", f"{top}/d")
        done(vm, "rename", f"{top}/a", f"{top}/d/b")
        done(vm, "rename", f"{top}/d", f"{top}/e")
        done(vm, "create", f"{top}/c")
        assert change(vm, "rename", f"{top}/c", f"{top}/e/b", flags=1) == ("failed", EXISTS)
        done(vm, "rename", f"{top}/c", f"{top}/e/b")
        done(vm, "rename", f"{top}/e/b", f"{top}/e/b")
        assert set(listed(vm, top)[0]) == {b"e"} and set(listed(vm, f"{top}/e")[0]) == {b"b"}
        refused(vm, top, ("rename", f"{top}/e/b", f"{top}/e", IS_DIRECTORY))
        done(vm, "remove", f"{top}/e/b")
        done(vm, "rmdir", f"{top}/e")
        done(vm, "rmdir", top)
        assert told(vm, "stat", top) == NOT_FOUND


@case("files: hostile paths: no change gets out; what has another name or is set-user-ID is not written", timeout=90)
def hostile_changes():
    """A link itself may be renamed and removed: as a name."""
    vm = guest()
    assert set_text(vm, "dev.rvmrpc.0.fs_write", "/srv/tree:/srv/tmp") == "ok"
    tried = 0
    for rest in HOSTILE:
        path = f"/srv/tree/{rest}"
        got = [change(vm, procedure, f"{path}/x") for procedure in ("create", "mkdir", "remove", "rmdir", "sync")]
        got += [change(vm, "rename", f"{path}/x", f"{path}/y"), change(vm, "rename", "/srv/tree/file", f"{path}/x"),
                change(vm, "write", f"{path}/x", b"x"), put(vm, f"{path}/x", 2)]
        assert set(got) <= {"not-allowed"}, (rest, got)
        own = [change(vm, "write", path, b"x"), put(vm, path, 1), put(vm, path, 2), change(vm, "create", path),
               change(vm, "mkdir", path)]
        assert not [one for one in own if one[0] == "ok"], (rest, own)
        tried += len(got) + len(own)
    for path in ("tmp", "dev"):
        assert {change(vm, "remove", f"/srv/tree/{path}"), change(vm, "rmdir", f"/srv/tree/{path}"),
                change(vm, "rename", f"/srv/tree/{path}", "/srv/tree/x"),
                change(vm, "rename", "/srv/tree/file", f"/srv/tree/{path}")} == {"not-allowed"}, path
    for path in ("/", "/srv/tree", "/srv/x", "/outside/x", "/srv/linked/x"):
        assert change(vm, "create", path) == change(vm, "rename", "/srv/tree/file", path) == "not-allowed", path
    comment(f"{tried} calls")
    for name, data in (("hard", b"twice"), ("suid", b"root's")):
        assert change(vm, "write", f"/srv/tree/{name}", b"x") == ("failed", ACCESS) == put(vm, f"/srv/tree/{name}", 1), name
        assert read_at(vm, f"/srv/tree/{name}") == data
    assert put(vm, "/srv/tree/suid", 4, uid=7) == ("ok", 0)
    assert only(told(vm, "stat", "/srv/tree/suid"), MODE) == 0o100755
    assert change(vm, "write", "/srv/tree/fifo", b"x") == ("failed", NOT_REGULAR)
    assert read_at(vm, "/srv/tree/file") == b"hello"


@case("files: a folder that is swapped for a link, and moved out, while it is walked", timeout=60)
def swapped():
    """For some seconds."""
    vm = guest()
    assert set_variable(vm, "kern.maxprocperuid", 12345) == "ok"
    seen = race(vm, "/srv/tree", SECRET, 6)
    assert set_variable(vm, "kern.maxprocperuid", 1000) == "ok"
    comment(str(seen))
    assert seen.get(0, 0) and seen.get("not-allowed", 0) and seen.get(NOT_FOUND, 0), seen


def noted(vm):
    """What the kernel told the program that serves since it was asked last."""
    status, data = call(vm.qmp, "bsd", "noted", timeout=5000)
    assert status == "ok", status
    return [value for value, in struct.iter_unpack("<i", data)]


# Of FreeBSD.
ENOENT, EEXIST, EINVAL, EAGAIN, EMSGSIZE, ENOTCONN = 2, 17, 22, 35, 40, 57


@case("serve: echo; another program of that name; what is malformed, too much, or of no call", timeout=60)
def serve():
    """The call ends with a status, or with the right answer that follows."""
    vm = guest()
    wait_for(lambda: call(vm.qmp, "bsd", "echo", b"abc", 5000) == ("ok", b"abc"), 10, "the program")
    said = noted(vm)
    assert said == [-EINVAL, -EINVAL, -ENOTCONN, 0, -EEXIST, -EAGAIN], said
    large = bytes(range(256)) * 16
    for data in (b"", large):
        assert call(vm.qmp, "bsd", "echo", data, 5000) == ("ok", data)
    assert call(vm.qmp, "bsd", "big", timeout=5000) == ("too-big", b"")
    said = noted(vm)
    assert said == [-EMSGSIZE], said
    assert call(vm.qmp, "bsd", "wrong", b"after all that", 5000) == ("ok", b"after all that")
    said = noted(vm)
    assert said == [-EINVAL, -EINVAL, -EINVAL, -ENOENT, -ENOENT], said
    module, = [m for m in vm.query()["modules"] if m["name"] == "bsd"]
    assert module["number"] == 0x10000 and module["version"] == 3 and [p["name"] for p in module["procedures"]] == [
        "echo", "die", "never", "big", "wrong", "noted"], module


@case("serve: a program that dies: its callers know at once; one that never answers holds nobody else", timeout=60)
def dies():
    """Of 4 slots programs may hold two workers."""
    vm = guest()
    start = time.monotonic()
    assert call(vm.qmp, "bsd", "die", timeout=20000)[0] == "system-error" and time.monotonic() - start < 3
    assert call(vm.qmp, "bsd", "echo")[0] == "module-unavailable"
    wait_for(lambda: call(vm.qmp, "bsd", "echo", b"x", 5000) == ("ok", b"x"), 10, "the next one")
    first = vm.qmp.send("guest-kernel-call", call_args("bsd", "never", b"", 20000))
    time.sleep(0.3)
    status, _ = call(vm.qmp2, "bsd", "never", timeout=300)
    assert status == "timed-out", status
    wait_for(lambda: call(vm.qmp2, "bsd", "echo", b"x", 5000) == ("ok", b"x"), 3, "a worker that the caller gave back")
    second = vm.qmp2.send("guest-kernel-call", call_args("bsd", "die", b"", 20000))
    start = time.monotonic()
    assert vm.qmp2.recv(second, timeout=5)["status"] == "system-error"
    assert vm.qmp.recv(first, timeout=5)["status"] == "system-error" and time.monotonic() - start < 3
    wait_for(lambda: call(vm.qmp, "bsd", "echo", b"x", 5000) == ("ok", b"x"), 10, "the next one")


@case("events: a module's own, by its text; low memory, unless the host asked; none when the guest does not want it")
def events():
    """Each by QMP, in the order of their numbers."""
    vm = guest()
    (_, before), = records(vm.qmp, "clock", "read")
    assert call(vm.qmp, "test", "event", b"disk 7 is slow") == ("ok", b"")
    own = heard(vm, lambda d: d["module"] == 0x101)
    (_, after), = records(vm.qmp, "clock", "read")
    assert (own["type"], own["kind"], own["text"]) == ("other", 7, "disk 7 is slow"), own
    assert base64.b64decode(own["data"]) == b"\1\2\3" and only(before, 3) <= own["time-ns"] <= only(after, 3), own
    for flags, text in ((1, "too little kernel memory"), (2, "too few free pages")):
        assert set_variable(vm, "debug.vm_lowmem", flags) == "ok"
        low = heard(vm, lambda d: d["module"] == 0)
        assert (low["type"], low["kind"], low["text"], low["number"]) == ("low-memory", 18, text, own["number"] + flags), low
    assert set_variable(vm, "dev.rvmrpc.0.events", 0) == "ok"
    assert call(vm.qmp, "test", "event", b"silent")[0] == "system-error" and set_variable(vm, "debug.vm_lowmem", 2) == "ok"
    assert set_variable(vm, "dev.rvmrpc.0.events", 1) == "ok"
    assert call(vm.qmp, "reclaim", "drop_caches", struct.pack("<II", 3, 0), 10000)[0] == "ok"
    assert call(vm.qmp, "test", "event", b"last")[0] == "ok"
    last = heard(vm, lambda d: True)
    assert (last["text"], last["number"], last["missed"]) == ("last", low["number"] + 1, 0), last


@case("an end of memory: it is low, and who was killed", timeout=120)
def out_of_memory():
    """As the kernel's own log has it."""
    vm = guest()
    assert set_variable(vm, "vm.pfault_oom_wait", 1) == "ok" and set_variable(vm, "kern.logsigexit", 0) == "ok"
    kill = vm.qmp.wait_event("GUEST_KERNEL_EVENT", 60, lambda d: d["type"] == "oom-kill")["data"]
    low = heard(vm, lambda d: d["kind"] == 18)
    assert low["text"] == "too few free pages" and low["number"] < kill["number"], (low, kill)
    pid, name = wait_for(lambda: re.findall(r"^pid (\d+) \((\w+)\).* was killed: ", vm.console(), re.M), 10, "its log")[0]
    assert (kill["pid"], kill["process"]) == (int(pid), name) == (kill["pid"], "init"), (kill, pid, name)
    assert MEMORY // 4 < kill["rss"] < MEMORY, kill
    assert call(vm.qmp, "echo", "echo", b"on")[0] == "ok"


@case("a guest that is asked to reboot while it is frozen does so, and all is written", timeout=90)
def frozen_reboot():
    """It ends the VM."""
    vm = guest()
    assert freeze_state(vm, "freeze", freeze_for(600000))[:3] == ("ok", 2, 1)
    assert call(vm.qmp, "control", "reboot", bytes(8)) == ("ok", b"")
    assert vm.qmp.wait_event("SHUTDOWN", timeout=60)["data"]["reason"] == "guest-reset"
    assert "All buffers synced" in vm.console() and "signal 2" in vm.console()
    assert not any(e.get("data", {}).get("type") == "oom-kill" for e in vm.qmp.events), "the writer was killed by kill(2)"
    vm.process.wait(20)


@case("a panic, and why", timeout=150)
def panic():
    """A guest's last word."""
    vm = guest()
    call(vm.qmp, "test", "set", struct.pack("<I", 1) + b"debug.kdb.panic", 100)
    data = heard(vm, lambda d: d["type"] == "panic")
    assert (data["text"], data["pid"], data["process"]) == ("kdb_sysctl_panic", 0, "kernel"), data


if __name__ == "__main__":
    main(guests=bool(KERNEL))
