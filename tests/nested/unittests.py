#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""kvm-unit-tests: no one attaches a device, so each ends on our KVM as on Debian's.

KVM_UNIT_TESTS names a checkout of them in which "./configure && make" has run; without it all is skipped. Debian has no
package of them. What needs VMX, or another configuration of KVM, is left out, as their own runner does.
"""
import collections
import os
import pathlib
import re
import shlex
import time

from levels import MOUNTS, shared_l1

from harness import GuestTimeout, Skip, case, comment, main

FOLDER = os.environ.get("KVM_UNIT_TESTS")
BOOT = 120
# An emulated SVM is slow: twice what they give themselves, to this many seconds.
MOST = 120
# Times decide some of them, on both alike: what differs is run again.
TRIES = 3
QEMU = ("/nested/qemu-system-x86_64 -L /nested/data --no-reboot -nodefaults -global kvm-pit.lost_tick_policy=discard "
        "-device pc-testdev -device isa-debug-exit,iobase=0xf4,iosize=0x4 -device pci-testdev -display none "
        "-serial stdio -machine accel=kvm")
# By exit status of isa-debug-exit: twice the program's own, and one.
VERDICTS = {1: "pass", 3: "fail", 137: "hang"}
OWNERS = {"stock": "Debian's", "ours": "our"}
QUOTES = "'\""
SUMMARY = re.compile(r"^SUMMARY: (.*)$", re.MULTILINE)


def programs():
    """{name: its entries in unittests.cfg} of those that can run here."""
    found, entry = {}, {}
    for line in pathlib.Path(FOLDER, "x86/unittests.cfg").read_text(encoding="utf-8").splitlines():
        name = re.fullmatch(r"\[(.*)\]", line.strip())
        if name:
            entry = found[name.group(1)] = {}
        elif "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            entry[key.strip()] = value.strip()
    return {name: entry for name, entry in found.items()
            if entry.get("arch") != "i386" and "nodefault" not in entry.get("groups", "").split()
            and not {"vmx", "tdx", "sev"} & set(entry.get("groups", "").split())
            and pathlib.Path(FOLDER, "x86", entry["file"]).exists()}


def allowed(l1, entry):
    """Whether the host is set as that program wants it."""
    for path, value in (word.split("=", 1) for word in entry.get("check", "").split()):
        status, text = l1.guest.run(f"cat {path}")
        if status or text.strip() != value:
            return False
    return True


def run(l1, entry):
    """(verdict, summary, which of its checks failed) of one program."""
    limit = min(2 * int(entry.get("timeout", "60")), MOST)
    words = [f"timeout -s KILL {limit}", QEMU, f"-smp {entry.get('smp', '1')}", f"-kernel /unittests/{entry['file']}",
             entry.get("qemu_params", entry.get("extra_params", ""))]
    if "test_args" in entry:
        words.append(f"-append {shlex.quote(entry['test_args'].strip(QUOTES))}")
    try:
        code, text = l1.guest.run(f"cd /tmp; {' '.join(words)}", limit + 30)
    except GuestTimeout:
        code, text = 137, ""
    # Addresses, counts and times differ from run to run.
    failed = sorted({re.sub(r"(0x)?[0-9a-f]*\d+", "N", line) for line in text.splitlines() if line.startswith("FAIL")})
    summary = SUMMARY.findall(text)
    return VERDICTS.get(code, f"exit status {code}"), summary[-1] if summary else "", failed


def run_all(kvm, names):
    """{name: what it gave} on that KVM; None is "not configured"."""
    l1 = shared_l1(memory="3072M")
    if l1.kvm != kvm:
        l1.unload_kvm()
        l1.load_kvm(kvm)
    found, known = {}, programs()
    for name in names:
        started = time.monotonic()
        found[name] = run(l1, known[name]) if allowed(l1, known[name]) else None
        verdict, summary, failed = found[name] or ("not configured", "", [])
        comment(f"{OWNERS[kvm]} KVM: {name}: {verdict}, {summary}; {time.monotonic() - started:.0f} s"
                + "".join(f"\n  {line}" for line in failed[:8]))
    return found


@case("kvm-unit-tests: each ends on our KVM as on Debian's", timeout=9000)
def same():
    """The verdict, the number of checks, and which of them fail."""
    if not FOLDER:
        raise Skip("KVM_UNIT_TESTS names no built checkout of kvm-unit-tests")
    MOUNTS["unittests"] = (pathlib.Path(FOLDER, "x86"), True)
    different = sorted(programs())
    best = {kvm: {} for kvm in OWNERS}
    for _ in range(TRIES):
        for kvm, found in best.items():
            for name, result in run_all(kvm, different).items():
                if name not in found or result[0] == "pass":
                    found[name] = result
        different = sorted(name for name in best["stock"] if best["stock"][name] != best["ours"][name])
        if not different:
            break
        comment(f"differ, run again: {' '.join(different)}")
    for kvm, found in best.items():
        counts = collections.Counter(result[0] if result else "not configured" for result in found.values())
        comment(f"{OWNERS[kvm]} KVM: {dict(counts)}")
    assert sum(result is not None and result[0] == "pass" for result in best["stock"].values()) > 20, "hardly any passed"
    assert not different, {name: [found[name] for found in best.values()] for name in different}


if __name__ == "__main__":
    main()
