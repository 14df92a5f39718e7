#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's files by the command, against the guest's own truth."""
import contextlib
import errno
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from harness import Skip, case, main, shared, wait_connected, wait_for  # noqa: E402
from tools import PATIENT, RVMRPC, environment, ok, rvmrpc  # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix="rvmrpc-files-")


def guest():
    """One for all cases, with a file of some MiB."""
    vm = shared(smp=2, memory="384M", device_opts=f"socket={FOLDER.name}/files.sock",
                append=f"{PATIENT} rvmrpc.fs_allow=/srv/tree", extra=["-name", "guest=files"])
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
def mounted(what="files:/srv/tree", folder="mnt"):
    """The folder at which it is, and the process; it must end by itself, without a complaint."""
    if not os.path.exists("/dev/fuse"):
        raise Skip("this machine has no /dev/fuse")
    place = pathlib.Path(FOLDER.name) / folder
    place.mkdir(exist_ok=True)
    with subprocess.Popen([RVMRPC, "mount", what, place], env=environment(FOLDER.name), stdout=subprocess.PIPE,
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


@case("mount: SHA-256, find, grep -r, cp -a over a tree; nothing can be written", timeout=180)
def mount():
    """300 files, 2,000 with RVMRPC_LONG."""
    vm = guest()
    count = 2000 if os.environ.get("RVMRPC_LONG") else 300
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
        wait_for(lambda: (place / "file").read_text() == "another\n", 5, "what the guest has written")


@case("mount ends by a signal and when the VM goes, and goes on when the guest starts anew", timeout=180)
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
        epoch = vm.query()["epoch"]
        vm.qmp.cmd("system_reset")
        wait_connected(vm, epoch, 60)
        # Its root is in memory, and new.
        wait_for(lambda: not place.exists(), 5, "the new guest's files")
        assert process.poll() is None
        vm.qmp.cmd("quit")
        process.wait(30)


if __name__ == "__main__":
    main()
