#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's files by the command, against the guest's own truth."""
import hashlib
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from harness import case, main, shared  # noqa: E402
from tools import PATIENT, ok, rvmrpc  # noqa: E402

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


if __name__ == "__main__":
    main()
