#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""run.py [NAME...]: breaks the tree as mutations.txt says, one stanza at a time, and looks that its test fails then.

Works on a copy. A mutation that does not apply, a test that fails without it, and one that passes with it are failures.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("RVMRPC_BUILD", TOP / "build")).resolve()
TREE = BUILD / "mutations" / "tree"
LIMIT = 300


def stanzas():
    """(name, claim, file, test, old text, new text) of each."""
    blocks = (HERE / "mutations.txt").read_text(encoding="utf-8").strip().split("\n\n")
    for block in blocks[2:]:
        head, name, test, *lines = block.split("\n")
        old = "".join(line[1:] + "\n" for line in lines if line[0] == "-")
        new = "".join(line[1:] + "\n" for line in lines if line[0] == "+")
        yield *head.split(": ", 1), name, test, old, new


def run(command, **kwargs):
    """Status and output; a command that hangs has failed."""
    try:
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                                timeout=LIMIT, errors="replace", **kwargs)
        return result.returncode, result.stdout
    except subprocess.TimeoutExpired as error:
        return 124, str(error)


def copy_tree():
    """A fresh copy with a build folder of its own, of what is built in seconds."""
    shutil.rmtree(TREE, ignore_errors=True)
    TREE.mkdir(parents=True)
    names = subprocess.run(["git", "-C", TOP, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                           check=True, stdout=subprocess.PIPE, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (TOP / name).is_file():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, TREE / name)
    status, said = run(["/usr/bin/meson", "setup", TREE / "build", TREE, "-Dqemu=false", "-Dguests=false", "-Dkvm=false"])
    if status:
        sys.exit(f"meson setup: {said[-2000:]}")
    (TREE / "build" / "cbmc").symlink_to((BUILD / "cbmc").resolve())


def passes(test):
    """Whether a test of the copy passes, and what it said. A tree that does not build is an error."""
    kind, name, case = test.split()
    if kind == "proof":
        status, said = run([TREE / "tests/proofs/run.py", name + ".c", case],
                           env=dict(os.environ, RVMRPC_BUILD=str(TREE / "build")))
        if "properties" not in said:
            raise RuntimeError(f"no proof ran: {said[-2000:]}")
        return not status, said
    target = f"tests/unit/unit-{name}"
    status, said = run(["ninja", "-C", TREE / "build", target])
    if status:
        raise RuntimeError(f"does not build: {said[-2000:]}")
    status, said = run([TREE / "build" / target, "--tap", "-p", case])
    if not status and f" {case}" not in said:
        raise RuntimeError(f"no case {case}: {said[-500:]}")
    return not status, said


def judge(path, test, old, new):
    """None when the mutation is caught, or what is wrong."""
    text = path.read_text(encoding="utf-8")
    if text.count(old) != 1:
        return f"its lines are in {path.relative_to(TREE)} {text.count(old)} times"
    path.write_text(text.replace(old, new), encoding="utf-8")
    try:
        return f"survives {test}" if passes(test)[0] else None
    except RuntimeError as error:
        return str(error)
    finally:
        path.write_text(text, encoding="utf-8")
        # Not older than what was built with the change.
        os.utime(path)


def main():
    """Prints the cases."""
    chosen = [s for s in stanzas() if len(sys.argv) == 1 or s[0] in sys.argv[1:]]
    copy_tree()
    print(f"1..{len(chosen)}", flush=True)
    bad, sound = 0, {}
    for number, (name, claim, file, test, old, new) in enumerate(chosen, 1):
        start = time.monotonic()
        try:
            if test not in sound:
                sound[test] = None if passes(test)[0] else f"{test} fails without it"
            wrong = sound[test] or judge(TREE / file, test, old, new)
        except RuntimeError as error:
            wrong = str(error)
        bad += bool(wrong)
        print(f"{'not ok' if wrong else 'ok'} {number} {name}: {claim[3:]} ({test}, {time.monotonic() - start:.0f} s)")
        if wrong:
            print("\n".join(f"# {line}" for line in wrong.splitlines()[-30:]))
        sys.stdout.flush()
    return 1 if bad or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
