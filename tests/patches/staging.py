#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Staging QEMU, on a copy of the project and the part of QEMU that we hook.

It is idempotent, copies only what changed, and refuses what would change
upstream in a place that nobody named.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "vm"))

# pylint: disable=wrong-import-position
from harness import case, main  # noqa: E402

# What staging reads.
INPUTS = ("scripts", "qemu", "core", "include", "qmp-schema", "docs")


def pristine():
    """Debian's QEMU source, that the build has unpacked."""
    home = os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")
    cache = pathlib.Path(os.environ.get("RVMRPC_CACHE", pathlib.Path(home, "rvmrpc")))
    return sorted((cache / "src").glob("qemu-10.0.*"))[-1]


def upstream_files(patches):
    """Upstream's files that the series changes."""
    text = "".join(p.read_text(encoding="utf-8") for p in sorted(patches.glob("*.patch")))
    return set(re.findall(r"^--- a/(\S+)", text, re.M))


class Copy:
    """A copy of the project, with a build folder of its own."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="rvmrpc-staging-")
        self.top = pathlib.Path(self.folder.name)
        for name in INPUTS:
            shutil.copytree(TOP / name, self.top / name)
        self.tree = self.top / "build" / "stage" / "qemu"
        self.patches = self.top / "qemu" / "patches"
        self.source = self.top / "source"
        for name in sorted(upstream_files(self.patches) | {"VERSION"}):
            target = self.source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(pristine() / name, target)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.folder.cleanup()

    def run(self, *command, **env):
        """(exit status, output) of a script of the copy."""
        env = {**os.environ, "RVMRPC_BUILD": str(self.top / "build"),
               "QEMU_SRC": str(self.source), **env}
        done = subprocess.run(command, cwd=self.top, env=env, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False, timeout=60)
        print(done.stdout)
        return done.returncode, done.stdout

    def stage(self, **env):
        """Stages, which must work; returns what was said."""
        status, output = self.run("scripts/stage", "qemu", **env)
        assert status == 0, "staging failed"
        return output

    def refuse(self, reason, **env):
        """Stages, which must fail for that reason."""
        status, output = self.run("scripts/stage", "qemu", **env)
        assert status != 0, "staging went through"
        assert reason in output, f"not refused for: {reason}"

    def snapshot(self):
        """Name -> time of every file of the staged tree, but for our notes."""
        return {str(p.relative_to(self.tree)): p.stat().st_mtime_ns
                for p in self.tree.rglob("*")
                if p.is_file() and ".rvmrpc" not in p.parts}

    def first_patch(self):
        """The first patch of the series."""
        lines = (self.patches / "series").read_text(encoding="utf-8").splitlines()
        return self.patches / next(x for x in lines if x and not x.startswith("#"))


@case("refresh-patches after no edit gives no diff", timeout=60)
def refresh_same():
    """The committed series is what the tool would write."""
    with Copy() as copy:
        before = {p.name: p.read_bytes() for p in copy.patches.iterdir()}
        assert copy.run("scripts/refresh-patches", "qemu")[0] == 0
        after = {p.name: p.read_bytes() for p in copy.patches.iterdir()}
        assert sorted(before) == sorted(after)
        assert [n for n in before if before[n] != after[n]] == []


@case("devtree and refresh-patches carry an edit", timeout=60)
def edit_hook():
    """A commit in the editing tree becomes a patch."""
    with Copy() as copy:
        tree = copy.top / "edit"
        assert copy.run("scripts/devtree", "qemu", str(tree))[0] == 0
        with open(tree / "VERSION", "a", encoding="utf-8") as f:
            f.write("edited\n")
        git = ("git", "-C", str(tree), "-c", "user.name=x", "-c", "user.email=x@localhost")
        assert copy.run("scripts/refresh-patches", "qemu",
                        str(tree))[0] != 0, "edit not committed"
        assert copy.run(*git, "commit", "-qam", "version: say more")[0] == 0
        assert copy.run("scripts/refresh-patches", "qemu",
                        str(tree))[0] == 0
        last = (copy.patches / "series").read_text(encoding="utf-8").splitlines()[-1]
        assert last.endswith("version-say-more.patch")
        assert "\n+edited\n" in (copy.patches / last).read_text(encoding="utf-8")


@case("staging again changes nothing", timeout=60)
def idempotent():
    """Not even a file's time, or ninja would build again."""
    with Copy() as copy:
        copy.stage()
        before = copy.snapshot()
        assert "up to date" in copy.stage()
        assert copy.snapshot() == before


@case("only files of ours that changed are copied", timeout=60)
def incremental():
    """The rest keeps its times, and what we drop goes."""
    with Copy() as copy:
        copy.stage()
        before = copy.snapshot()
        with open(copy.top / "include" / "rvmrpc_abi.h", "a", encoding="utf-8") as f:
            f.write("/* changed */\n")
        added = copy.top / "qemu" / "files" / "hw" / "rvmrpc" / "added.c"
        added.write_text("int added;\n", encoding="utf-8")
        copy.stage()
        after = copy.snapshot()
        changed = sorted(pathlib.Path(n).name for n in after if after[n] != before.get(n))
        assert changed == ["added.c", "rvmrpc_abi.h"], changed
        added.unlink()
        copy.stage()
        assert sorted(copy.snapshot()) == sorted(before)


@case("a changed patch leaves other files' times alone", timeout=60)
def patch_changes():
    """So ninja builds anew only what the hooks changed."""
    with Copy() as copy:
        copy.stage()
        before = copy.snapshot()
        patch = copy.first_patch()
        patch.write_text("A remark in the header.\n" + patch.read_text(encoding="utf-8"),
                         encoding="utf-8")
        assert "up to date" not in copy.stage()
        assert copy.snapshot() == before


@case("a file of ours that hides one of upstream's is refused", timeout=60)
def hides_upstream():
    """On a fresh tree as on one that stands."""
    with Copy() as copy:
        ours = copy.top / "qemu" / "files" / "VERSION"
        ours.write_text("10.0.0\n", encoding="utf-8")
        copy.refuse("VERSION exists upstream")
        assert not copy.tree.exists()
        ours.unlink()
        copy.stage()
        ours.write_text("10.0.0\n", encoding="utf-8")
        copy.refuse("VERSION exists upstream")


@case("a hunk that fits only with fuzz is refused, and the old tree stays", timeout=60)
def no_fuzz():
    """With fuzz 2, patch would take a hunk whose outermost line differs."""
    with Copy() as copy:
        copy.stage()
        before = copy.snapshot()
        patch = copy.first_patch()
        text = patch.read_text(encoding="utf-8")
        altered = re.sub(r"(^@@.*\n (?=.*\S).*)", r"\1 altered", text, count=1, flags=re.M)
        assert altered != text
        patch.write_text(altered, encoding="utf-8")
        copy.refuse("does not apply")
        assert copy.snapshot() == before


@case("a hook in a function that docs/delta.md does not name is refused", timeout=60)
def unnamed_hook():
    """Renaming a function in the table is as good as moving the hook."""
    with Copy() as copy:
        delta = copy.top / "docs" / "delta.md"
        text = delta.read_text(encoding="utf-8")
        altered = re.sub(r"^(\|[^|]+\.c`? *\| *`?)\w\w+", r"\1another_function", text,
                         count=1, flags=re.M)
        assert altered != text
        delta.write_text(altered, encoding="utf-8")
        copy.refuse("check-delta:")
        assert not copy.tree.exists()


@case("a QEMU_SRC of another series is refused", timeout=60)
def other_series():
    """The hooks are for one."""
    with Copy() as copy:
        other = copy.top / "other"
        other.mkdir()
        (other / "VERSION").write_text("9.2.0\n", encoding="utf-8")
        copy.refuse("the patches are for QEMU 10.0", QEMU_SRC=str(other))


if __name__ == "__main__":
    main(guests=False)
