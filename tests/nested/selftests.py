#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux' own KVM selftests: no one attaches a device, so our KVM is as Debian's.

scripts/build-selftests builds them, unchanged. Each runs on both KVMs in one
host (L1), and must end and say the same on both.
"""
import re
import time

from levels import MOUNTS, shared_l1

from harness import BUILD, case, comment, main

MOUNTS["selftests"] = (BUILD / "selftests", True)
LIMIT = 60
BOOT = 120
# The guest in xapic_ipi_test gives an IPI 2e9 cycles, less than a second, which
# a busy machine that emulates all of this may miss: on Debian's KVM, too.
TRIES = {"xapic_ipi_test": 4}
# The verdict that each must have on both, and seconds that it may take. Seen on
# 2 cores: up to 175 for set_memory_region_test, 11 for hyperv_features, 6 for
# xapic_ipi_test, 3 for the others.
PROGRAMS = {
    "fix_hypercall_test": ("pass", LIMIT),
    "hyperv_features": ("pass", LIMIT),
    "kvm_pv_test": ("pass", LIMIT),
    "set_memory_region_test": ("pass", 400),
    "smm_test": ("pass", LIMIT),
    "state_test": ("pass", LIMIT),
    "steal_time": ("pass", LIMIT),
    "svm_vmcall_test": ("pass", LIMIT),
    "xapic_ipi_test": ("pass", LIMIT),
    "xen_vmcall_test": ("pass", LIMIT),
}
ALL = BOOT + sum(limit * TRIES.get(name, 1) for name, (_, limit) in PROGRAMS.items())
# By exit status; all others are failed assertions and signals.
VERDICTS = {0: "pass", 4: "skip", 137: "hang"}
OWNERS = {"stock": "Debian's", "ours": "our"}
DONE = {}


def host(kvm):
    """The L1 of all cases, with that KVM."""
    l1 = shared_l1()
    if l1.kvm != kvm:
        l1.unload_kvm()
        l1.load_kvm(kvm)
    assert (l1.guest.check("cat /sys/module/kvm/taint").strip() == "") == (kvm == "stock")
    return l1


def run(kvm, program):
    """(exit status, what it says) of a program on that KVM."""
    l1, limit = host(kvm), PROGRAMS[program][1]
    started = time.monotonic()
    code, text = l1.guest.run("cd /tmp; LD_LIBRARY_PATH=/selftests/lib "
                              f"timeout -s KILL {limit} /selftests/{program}", limit + 20)
    comment(f"{program} on {OWNERS[kvm]} KVM: {VERDICTS.get(code, 'fail')}, "
            f"{time.monotonic() - started:.1f} s")
    if code:
        comment(f"exit status {code}:\n{text}")
    return code, text


def outcome(kvm, program):
    """The same, but run once only, or until it passes when it may try again."""
    if (kvm, program) not in DONE:
        for _ in range(TRIES.get(program, 1)):
            result = run(kvm, program)
            if result[0] == 0:
                break
        DONE[kvm, program] = result
    return DONE[kvm, program]


def lines(text):
    """What a program says, without numbers, and in no order: threads race."""
    return sorted(re.sub(r"\d+", "N", text).splitlines())


def run_all(kvm):
    """So that the modules are changed once for all programs."""
    for program in PROGRAMS:
        outcome(kvm, program)


for name, owner in OWNERS.items():
    case(f"all of them run on {owner} KVM", timeout=ALL, kvm=name)(run_all)


def compare(program):
    """The same exit status and lines on both, and the verdict that it must have."""
    stock, ours = outcome("stock", program), outcome("ours", program)
    found = VERDICTS.get(stock[0], "fail")
    comment(f"{found} on Debian's KVM, {VERDICTS.get(ours[0], 'fail')} on ours")
    assert ours[0] == stock[0] and lines(ours[1]) == lines(stock[1]), (ours, stock)
    assert found == PROGRAMS[program][0], found


for name, (_, most) in PROGRAMS.items():
    case(f"{name}: the same on both", timeout=BOOT + 2 * most * TRIES.get(name, 1),
         program=name)(compare)


if __name__ == "__main__":
    main()
