#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's files by the command, against the guest's own truth."""
import contextlib
import errno
import hashlib
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path += [str(pathlib.Path(__file__).resolve().parents[1] / name) for name in ("vm", "clients")]

# pylint: disable=wrong-import-position
from harness import Skip, case, comment, main, set_parameter, shared, wait_connected, wait_for  # noqa: E402
from harness.files import mute_fuse  # noqa: E402
from tools import PATIENT, RVMRPC, environment, ok, rvmrpc  # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix="rvmrpc-files-")
LONG = bool(os.environ.get("RVMRPC_LONG"))
LIMIT = 800 if LONG else 180
# Times that meminfo's p99 may grow, and what it may be, ms: two copies and a guest share two CPUs of the host with other tests.
BESIDE = 2
SOON = 20


def guest(write=""):
    """One for all cases, with a file of some MiB."""
    vm = shared(smp=2, memory="512M", device_opts=f"socket={FOLDER.name}/files.sock",
                append=f"{PATIENT} rvmrpc.fs_allow=/srv/tree rvmrpc.allow=default,files.*", extra=["-name", "guest=files"])
    set_parameter(vm, "fs_write", write)
    vm.guest.check("test -d /srv/tree || { mkdir -p /srv/tree/sub && cd /srv/tree && printf hello > file && chmod 4750 file && "
                   "ln -s file link && ln -s /etc out && : > empty && "
                   "dd if=/dev/urandom of=big bs=100001 count=60 2>/dev/null; }", timeout=60)
    return vm


def run(*words, status=0):
    """A command on that guest, which ends so."""
    result = rvmrpc(*words, "-t", 10000, folder=FOLDER.name)
    assert result.status == status, result
    return result


@case("cat and cp: a file of 6 MB, an empty one, a link", timeout=120)
def copies():
    """By SHA-256 of the guest's own."""
    vm = guest()
    here = pathlib.Path(FOLDER.name)
    for name in ("big", "empty", "link"):
        own = vm.guest.check(f"sha256sum /srv/tree/{name}").split()[0]
        run("cp", f"files:/srv/tree/{name}", here / "copy")
        assert hashlib.sha256((here / "copy").read_bytes()).hexdigest() == own, name
        run("cp", f"files:/srv/tree/{name}", here)
        assert (here / name).read_bytes() == (here / "copy").read_bytes() and (here / name).stat().st_mode & 0o7111 == 0
    assert run("cat", "files", "/srv/tree/link").out == "hello" and run("cat", "files", "/srv/tree/empty").out == ""
    assert sorted(p.name for p in here.iterdir()) == ["big", "copy", "empty", "files.sock", "link"], list(here.iterdir())


@case("cat: holes, and an end within a page")
def holes():
    """From a file system in memory, whose answers are pages of zeros."""
    vm = guest()
    vm.guest.check("cd /srv/tree && printf begin > sparse && printf middle | dd of=sparse bs=1 seek=1000003 conv=notrunc 2>/dev/null && "
                   "dd if=/dev/zero of=sparse bs=1 seek=3000001 count=0 2>/dev/null; "
                   "printf last | dd of=sparse bs=1 seek=3500017 conv=notrunc 2>/dev/null")
    own = vm.guest.check("sha256sum /srv/tree/sparse; rm -f /srv/tree/kept; mv /srv/tree/sparse /srv/tree/kept").split()[0]
    target = pathlib.Path(FOLDER.name) / "sparse"
    run("cp", "files:/srv/tree/kept", target)
    data = target.read_bytes()
    target.unlink()
    vm.guest.check("rm /srv/tree/kept")
    assert data.count(0) > 3000000 and len(data) > 3500000 and hashlib.sha256(data).hexdigest() == own, len(data)


@case("ls: a folder, a file, as JSON")
def ls():
    """Types and permissions as ls(1) shows them."""
    vm = guest()
    shown = {line.split()[-1]: line.split() for line in run("ls", "files", "/srv/tree").out.splitlines()[1:]}
    own = {line.split()[8]: line.split() for line in vm.guest.check("ls -ln /srv/tree").splitlines()[1:]}
    assert set(shown) == set(own) == {"file", "link", "out", "empty", "big", "sub"}, (shown, own)
    for name, words in shown.items():
        assert [words[0], words[1], words[2], words[3]] == [own[name][0], *own[name][2:5]], (words, own[name])
    assert run("ls", "files", "/srv/tree/file").out.splitlines()[1].split()[0] == "-rwsr-x---"
    got = {f["name"]: f for f in ok("ls", "files", "/srv/tree", "--json", folder=FOLDER.name).json()["files"]}
    assert got["big"]["size"] == 6000060 and got["sub"]["mode"] == 0o40755, got


@case("what is not there, not allowed, or no file: a sentence and an exit status each")
def errors():
    """And nothing is left of a copy that failed."""
    guest()
    target = pathlib.Path(FOLDER.name) / "never"
    for path, status, text in (("/srv/tree/none", 1, "no such file"), ("/srv/tree/out/passwd", 8, "fs_allow"),
                               ("/etc/passwd", 8, "fs_allow"), ("/srv/tree/sub", 1, "not a regular file"),
                               ("/srv/tree/file/x", 1, "not a directory")):
        for words in (("cat", "files", path), ("cp", f"files:{path}", target)):
            result = run(*words, status=status)
            assert text in result.err and result.out == "", result
    assert not [p for p in target.parent.iterdir() if p.name.startswith("never")]
    run("cp", "files", target, status=2)
    run("cp", "files:/srv/tree/file", "/nowhere/file", status=1)


# ---- mount ----

@contextlib.contextmanager
def mounted(what="files:/srv/tree", *options, folder="mnt"):
    """The folder at which it is, and the process; it must end by itself, without a complaint."""
    if not os.path.exists("/dev/fuse"):
        raise Skip("this machine has no /dev/fuse")
    place = pathlib.Path(FOLDER.name) / folder
    place.mkdir(exist_ok=True)
    with subprocess.Popen([RVMRPC, "mount", what, place, *options], env=environment(FOLDER.name), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line == f"{what} is at {place}\n", (line, process.poll())
            yield place, process
        finally:
            subprocess.run(["fusermount3", "-q", "-u", place], check=False)
            try:
                process.wait(20)
            finally:
                process.kill()
        complaints = process.stderr.read()
        assert process.returncode == 0 and not complaints, (process.returncode, complaints)
        assert not os.path.ismount(place)


def sums(root):
    """{path: SHA-256 or a link's text} of a local tree."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@case("mount: SHA-256, find, grep -r, cp -a over a tree; nothing can be written", timeout=LIMIT)
def mount():
    """300 files, 2,000 with RVMRPC_LONG."""
    vm = guest()
    count = 2000 if LONG else 300
    vm.guest.check("cd /srv/tree && mkdir many && cd many && for i in $(seq 10); do mkdir $i; done && "
                   f"for i in $(seq {count}); do echo number $i > $((i % 10 + 1))/f$i; done", timeout=60)
    own = {line.split("  ")[1][2:]: line.split("  ")[0] for line in vm.guest.check(
        "cd /srv/tree && find . -type f | xargs sha256sum", timeout=60).splitlines()}
    with mounted() as (place, _):
        seen = sums(place)
        assert {name: value for name, value in seen.items() if name not in ("link", "out")} == own, set(seen) ^ set(own)
        assert seen["link"] == "file" and seen["out"] == "/etc"
        found = subprocess.run(["find", place / "many", "-type", "f"], check=True, stdout=subprocess.PIPE).stdout
        assert len(found.splitlines()) == count
        hits = subprocess.run(["grep", "-rl", "number 77$", place], check=True, stdout=subprocess.PIPE, text=True).stdout
        assert hits.split() == [str(place / "many/8/f77")], hits
        copy = pathlib.Path(FOLDER.name) / "tree"
        subprocess.run(["cp", "-a", place, copy], check=True)
        assert sums(copy) == seen
        assert (copy / "file").stat().st_mtime == (place / "file").stat().st_mtime and os.statvfs(place).f_blocks > 0
        for write in ((place / "new").touch, (place / "file").unlink, (place / "sub").rmdir, (place / "file").touch):
            try:
                write()
                raise AssertionError(f"{write} was done")
            except OSError as error:
                assert error.errno == errno.EROFS, error
        # What the kernel has read ends with the file's size or time.
        vm.guest.check("echo another > /srv/tree/file")
        wait_for(lambda: (place / "file").read_text() == "another\n", 20, "what the guest has written")


@case("cp into the guest, mkdir, mv, rm", timeout=120)
def copies_in():
    """Whole, with its mode, under its name only when it is there; and what is said when it cannot be."""
    vm = guest("/srv/tree/sub")
    here = pathlib.Path(FOLDER.name)
    source = here / "source"
    source.write_bytes(os.urandom(1000003))
    source.chmod(0o640)
    own = hashlib.sha256(source.read_bytes()).hexdigest()
    run("mkdir", "files", "/srv/tree/sub/d")
    run("cp", source, "files:/srv/tree/sub/d")
    run("cp", source, "files:/srv/tree/sub/d/other")
    run("cp", "/dev/null", "files:/srv/tree/sub/d/nothing")
    sums_seen = vm.guest.check("cd /srv/tree/sub/d && sha256sum source other | cut -c1-64; stat -c %a,%s source nothing; ls")
    assert sums_seen.split() == [own, own, "640,1000003", "666,0", "nothing", "other", "source"], sums_seen
    source.write_bytes(b"shorter")
    run("cp", source, "files:/srv/tree/sub/d/other")
    run("mv", "files", "/srv/tree/sub/d/other", "/srv/tree/sub/moved")
    assert vm.guest.check("cat /srv/tree/sub/moved") == "shorter"
    for words, status, text in ((("cp", source, "files:/srv/tree/x"), 8, "fs_write"), (("mkdir", "files", "/srv/tree/x"), 8, "fs_write"),
                                (("rm", "files", "/srv/tree/file"), 8, "fs_write"), (("rm", "files", "/srv/tree/sub/d"), 1, "not empty"),
                                (("mkdir", "files", "/srv/tree/sub/d"), 1, "there already"),
                                (("rm", "files", "/srv/tree/sub/none"), 1, "no such file"),
                                (("cp", here, "files:/srv/tree/sub/d"), 1, "is a directory"),
                                (("cp", here / "none", "files:/srv/tree/sub/d"), 1, "cannot read"),
                                (("cp", "files:/srv/tree/file", "files:/srv/tree/sub/d"), 2, "VM:/PATH"),
                                (("mv", "files", "/srv/tree/sub/moved", "/etc/moved"), 8, "fs_write")):
        result = run(*words, status=status)
        assert text in result.err, result
    for path in ("d/source", "d/other", "d/nothing", "d", "moved"):
        run("rm", "files", f"/srv/tree/sub/{path}", status=1 if path == "d/other" else 0)
    assert vm.guest.check("ls -A /srv/tree/sub") == ""


@case("mount --rw: cp -a into it, mv, rm -r, truncate, append, times; a tree that may only be read stays as it is", timeout=LIMIT)
def mount_rw():
    """The guest's own truth is the judge."""
    vm = guest("/srv/tree/sub")
    source = pathlib.Path(FOLDER.name) / "in"
    count = 2000 if LONG else 60
    for number in range(count):
        name = source / str(number % 7) / f"f{number}"
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_text(f"number {number}\n" * (number % 50))
        os.utime(name, (10**9 + number, 10**9 + 2 * number))
    (source / "large").write_bytes(os.urandom(3000001))
    (source / "script").write_text("#!/bin/sh\n")
    (source / "script").chmod(0o751)
    with mounted("files:/srv/tree", "--rw") as (place, _):
        subprocess.run(["cp", "-a", source, place / "sub" / "in"], check=True)
        assert sums(place / "sub" / "in") == sums(source)
        own = vm.guest.check("cd /srv/tree/sub/in && find . -type f | xargs sha256sum; stat -c '%a %Y' script 1/f1", timeout=60).splitlines()
        assert {line[66:]: line[:64] for line in own[:-2]} == {f"./{name}": value for name, value in sums(source).items()}
        assert own[-2].split()[0] == "751" and own[-1].split()[1] == str(10**9 + 2), own[-2:]
        top = place / "sub" / "in"
        with open(top / "large", "r+b") as f:
            f.truncate(1000)
            f.seek(500)
            f.write(b"middle")
            os.fsync(f.fileno())
        with open(top / "script", "a", encoding="ascii") as f:
            f.write("exit\n")
        (top / "script").rename(top / "1" / "f1")
        (top / "new").touch()
        got = vm.guest.check("cd /srv/tree/sub/in && stat -c %s large && dd if=large bs=1 skip=500 count=6 2>/dev/null && echo && cat 1/f1")
        assert got == "1000\nmiddle\n#!/bin/sh\nexit\n", got
        with open(top / "new", "x" if not (top / "new").exists() else "w", encoding="ascii") as f:
            f.write("again")
        assert (top / "new").read_text() == "again"
        for what, number in ((lambda: (place / "x").touch(), errno.EACCES), (lambda: (place / "file").write_text("x"), errno.EACCES),
                             (lambda: (top / "new").chmod(0o4755), errno.EPERM), (lambda: os.symlink("a", top / "l"), errno.ENOSYS),
                             (lambda: (top / "1").rmdir(), errno.ENOTEMPTY)):
            try:
                what()
                raise AssertionError("it was done")
            except OSError as error:
                assert error.errno == number, error
        subprocess.run(["rm", "-r", top], check=True)
    assert vm.guest.check("ls -A /srv/tree/sub; cat /srv/tree/file") == "another\n"


@case("mount: a large file is the same, from the guest's page cache, and nothing is written", timeout=LIMIT)
def large():
    """100 MiB with RVMRPC_LONG, else 24; an ext4 on a disk, mounted for reading and writing, tells of any access."""
    vm = guest()
    size = 100 if LONG else 24
    vm.guest.check("modprobe -a crc32c_generic ext4 loop && mkdir -p /srv/disk && dd if=/dev/zero of=/tmp/disk bs=1M count=0 "
                   f"seek={size + 20} 2>/dev/null && mke2fs -F /tmp/disk > /dev/null && mount -o loop,strictatime /tmp/disk /srv/disk && "
                   f"dd if=/dev/urandom of=/srv/disk/large bs=1M count={size} 2>/dev/null && sync", timeout=120)
    set_parameter(vm, "fs_allow", "/srv/tree:/srv/disk")
    try:
        own = vm.guest.check("sha256sum /srv/disk/large; touch -d 2001-01-01 /srv/disk/large /srv/disk; sync", timeout=60).split()[0]
        stat = "sync; stat -c '%X %Y %Z' /srv/disk /srv/disk/large; cut -d' ' -f1-12 /sys/block/loop0/stat"
        before = vm.guest.check(stat)
        with mounted("files:/srv/disk") as (place, _):
            digest = hashlib.sha256((place / "large").read_bytes()).hexdigest()
            assert digest == own
            assert [p.name for p in place.iterdir()] == ["large"] or sorted(p.name for p in place.iterdir()) == ["large", "lost+found"]
        after = vm.guest.check(stat)
        # Neither read from the disk nor written to it.
        assert after == before, (before, after)
    finally:
        set_parameter(vm, "fs_allow", "/srv/tree")
        vm.guest.check("umount /srv/disk && rm /tmp/disk", timeout=30)


@case("a folder of the mount that hangs: what is in others answers, and the mount ends", timeout=LIMIT)
def hung():
    """Several readers at a time in a FUSE of the guest's that never answers."""
    vm = guest()
    set_parameter(vm, "fs_allow", "/srv/tree:/srv/tree/mute")
    try:
        with mute_fuse(vm, "/srv/tree/mute"), mounted("files:/srv/tree", "-t", "4000") as (place, _):
            readers = [subprocess.Popen(["ls", place / "mute" / f"f{i}"], stderr=subprocess.DEVNULL) for i in range(5)]  # pylint: disable=consider-using-with
            time.sleep(0.5)
            assert [reader.poll() for reader in readers] == [None] * 5, "nobody hangs"
            start = time.monotonic()
            with open(place / "big", "rb") as f:
                assert hashlib.sha256(f.read()).hexdigest() == vm.guest.check("sha256sum /srv/tree/big").split()[0]
            assert len(list(place.iterdir())) > 4 and vm.qmp.cmd("guest-meminfo")["total"]
            comment(f"{time.monotonic() - start:.1f} s beside five that hang")
            for reader in readers:
                assert reader.wait(40)
    finally:
        set_parameter(vm, "fs_allow", "/srv/tree")


@case("mount by a user of this host who may open the socket, and by one who may not", timeout=60)
def ordinary():
    """nobody; root alone may open it otherwise."""
    if os.getuid():
        raise Skip("only root can be somebody else")
    vm = guest()
    user = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(prefix="rvmrpc-user-") as name:
        os.chmod(name, 0o711)
        socket = pathlib.Path(FOLDER.name, "files.sock")
        place = pathlib.Path(name, "mnt")
        place.mkdir()
        os.chown(place, user.pw_uid, user.pw_gid)
        os.chmod(FOLDER.name, 0o711)

        def command(*words):
            return [shutil.which("setpriv"), f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *map(str, words)]
        if subprocess.run(command("fusermount3", "-V"), check=False, stdout=subprocess.DEVNULL).returncode:
            raise Skip("nobody cannot run fusermount3")
        refused = subprocess.run(command(RVMRPC, "mount", socket, place), check=False, stderr=subprocess.PIPE, text=True, timeout=20)
        assert refused.returncode in (4, 5) and refused.stderr, refused
        socket.chmod(0o666)
        with subprocess.Popen(command(RVMRPC, "mount", f"{socket}:/srv/tree", place), env=environment(FOLDER.name), text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                line = process.stdout.readline()
                assert "is at" in line, (line, process.poll() is not None and process.stderr.read())
                got = subprocess.run(command("sha256sum", place / "big"), check=True, stdout=subprocess.PIPE, text=True).stdout
                assert got.split()[0] == vm.guest.check("sha256sum /srv/tree/big").split()[0]
                # Nobody else's, root's neither.
                assert not os.access(place / "file", os.R_OK)
            finally:
                subprocess.run(command("fusermount3", "-q", "-u", place), check=False)
                process.wait(20)
        socket.chmod(0o600)


def quantile(values, share):
    """Of a list."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def meminfo_times(vm, seconds):
    """ms of calls one after another, by QMP."""
    times = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        vm.qmp.cmd("guest-meminfo")
        times.append((time.monotonic() - start) * 1000)
        time.sleep(0.002)
    return times


@case("two clients that copy a large file: meminfo's times beside", timeout=120)
def beside():
    """Turn and turn about; other tests may disturb some of it."""
    vm = guest()
    vm.guest.check("test -s /srv/tree/huge || dd if=/dev/zero of=/srv/tree/huge bs=1M count=64 2>/dev/null", timeout=60)
    best = None
    for _ in range(6):
        alone = meminfo_times(vm, 1.5)
        copies = [subprocess.Popen(["sh", "-c", f"while :; do '{RVMRPC}' cat files /srv/tree/huge || exit; done"],  # pylint: disable=consider-using-with
                                   env=environment(FOLDER.name), stdout=subprocess.DEVNULL, start_new_session=True)
                  for _ in range(2)]
        try:
            time.sleep(0.3)
            loaded = meminfo_times(vm, 1.5)
        finally:
            for process in copies:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        figures = [quantile(values, share) for values in (alone, loaded) for share in (0.5, 0.99)]
        if best is None or figures[3] / figures[1] < best[3] / best[1]:
            best = figures
        if best[3] < max(BESIDE * best[1], SOON):
            break
    comment("ms alone p50 {:.2f} p99 {:.2f}, beside two copies p50 {:.2f} p99 {:.2f}".format(*best))
    vm.guest.check("rm /srv/tree/huge")
    assert best[3] < max(BESIDE * best[1], SOON), best


@case("mount ends by a signal and when the VM goes, and goes on when the guest starts anew", timeout=LIMIT)
def mount_ends():
    """Nothing stays mounted."""
    vm = guest()
    with mounted() as (place, process):
        process.terminate()
        process.wait(10)
        assert not os.path.ismount(place)
    assert rvmrpc("mount", "nobody:/", "/tmp", folder=FOLDER.name).status == 3
    with mounted() as (place, process):
        assert (place / "file").exists()
        # All of the guest's user space stands still.
        own = vm.guest.check("cd /srv/tree && find . -type f | xargs sha256sum", timeout=60)
        vm.guest.sock.sendall(b"kill -STOP -1; kill -STOP $$\n")
        time.sleep(1.5)
        assert {f"./{name}": value for name, value in sums(place).items() if name not in ("link", "out")} == {
            line[66:]: line[:64] for line in own.splitlines()}
        epoch = vm.query()["epoch"]
        vm.qmp.cmd("system_reset")
        wait_connected(vm, epoch, 60)
        # Its root is in memory, and new.
        wait_for(lambda: not place.exists(), 20, "the new guest's files")
        assert process.poll() is None
        vm.qmp.cmd("quit")
        process.wait(30)


if __name__ == "__main__":
    main()
