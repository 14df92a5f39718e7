#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's own tests give the same results on QEMU as it is and on ours.

A case per suite of QEMU's; each test of it, and each case that the test prints,
counts. What passes on the one and not on the other is run again on both: QEMU's
own tests have flakes, too. UPSTREAM_TESTS names tests, instead of all.
"""
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from harness import BUILD, case, comment, main  # noqa: E402

UPSTREAM = BUILD / "upstream"
KINDS = ("stock", "fork")
LINE = re.compile(r"^(not ok|ok) (?:\d+ )?(?:- )?(.*?)(?:\s+#\s*(SKIP|TO" "DO).*)?$", re.IGNORECASE)
# The list of devices is in these names, or ours alone are in them.
OURS = re.compile(r"rvmrpc|/qmp/guest-")


def hide_kvm():
    """/dev/kvm opens on machines on which no guest runs by it, and QEMU's tests ask no more: they have TCG, here and anywhere."""
    device = pathlib.Path("/dev/kvm")
    if not os.access(device, os.W_OK):
        return
    with tempfile.NamedTemporaryFile() as none:
        # main() has given this program mounts of its own.
        subprocess.run(["mount", "--bind", none.name, device], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", device], check=True)
    assert not os.access(device, os.W_OK)


def meson_test(kind, names, suite):
    """Runs tests of a build; {test: [its log]}."""
    folder = UPSTREAM / kind
    command = [folder / "pyvenv/bin/meson", "test", "--no-rebuild", "--timeout-multiplier", "4"]
    command += names or ["--suite", suite]
    subprocess.run(command, cwd=folder, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    with open(folder / "meson-logs/testlog.json", encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def results(kind, names, suite):
    """{(test, case): passed, failed or skipped}; a test as a whole has the case ""."""
    found = {}
    for test in meson_test(kind, names, suite):
        name = test["name"].rsplit(" / ", 1)[-1]
        found[name, ""] = {"OK": "passed", "SKIP": "skipped"}.get(test["result"], "failed")
        for line in (test.get("stdout") or "").splitlines():
            match = LINE.match(line)
            if match and not OURS.search(match.group(2)):
                state = "skipped" if match.group(3) else "passed" if match.group(1).lower() == "ok" else "failed"
                found[name, match.group(2)] = state
    return found


def compare(suite):
    """Both builds' results of a suite are the same, and there are some."""
    hide_kvm()
    names = os.environ.get("UPSTREAM_TESTS", "").split()
    stock, fork = (results(kind, names, suite) for kind in KINDS)
    different = {key for key in stock.keys() | fork.keys()
                 if stock.get(key) != fork.get(key) and not OURS.search(key[0])}
    if different:
        again = sorted({key[0] for key in different})
        comment(f"differ at first, run again: {' '.join(again)}")
        for found, kind in ((stock, "stock"), (fork, "fork")):
            # Not once worse than the other's best.
            for key, state in results(kind, again, suite).items():
                if state == "passed" or key not in found:
                    found[key] = state
    for kind, found in zip(KINDS, (stock, fork)):
        counts = collections.Counter(found.values())
        failed = sorted(f"{test} {name}".strip() for (test, name), state in found.items() if state == "failed")
        comment(f"{kind}: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
        if failed:
            comment(f"  failed: {', '.join(failed[:20])}")
    assert sum(state == "passed" for state in stock.values()) > 20, "hardly anything ran"
    worse = {key: (stock.get(key), fork.get(key)) for key in different
             if stock.get(key) != fork.get(key) and not OURS.search(key[0])}
    assert not worse, worse


case("qtests of x86_64, migration-test too", timeout=5400, suite="qtest-x86_64")(compare)
case("iotests", timeout=3600, suite="block")(compare)


if __name__ == "__main__":
    main(guests=False)
