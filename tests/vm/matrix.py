#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairwise over CPU vendor, CPUs, machine, gate, way of waiting and kernel."""
import itertools
import os
import re

from harness import VM, call, case, driver_file, main, wait_for

FACTORS = {
    "cpu": ("max", "Haswell,vendor=GenuineIntel"),      # VMMCALL, VMCALL
    "smp": (1, 2),
    "machine": ("pc", "q35"),
    "gate": ("hypercall", "doorbell"),
    "idle_us": (0, -1, None),                           # None: the default
    "kernel": ("6.1", "6.12"),
}


def pairs(row):
    """The pairs of values, of two factors each, that a row covers."""
    return set(itertools.combinations(enumerate(row), 2))


def pairwise():
    """Rows, greedily the one with the most new pairs, until none is left."""
    rows = list(itertools.product(*FACTORS.values()))
    left = set().union(*map(pairs, rows))
    chosen = []
    while left:
        best = max(rows, key=lambda row: len(pairs(row) & left))
        left -= pairs(best)
        chosen.append(best)
    return chosen


EVERY = "RVMRPC_LONG" in os.environ     # all combinations, not pairs
ROWS = list(itertools.product(*FACTORS.values())) if EVERY else pairwise()


@case("the rows cover every pair of values")
def complete():
    """Counted another way than they were chosen. One guest, for the log's check."""
    for (i, a), (j, b) in itertools.combinations(enumerate(FACTORS.values()), 2):
        for x, y in itertools.product(a, b):
            assert any(row[i] == x and row[j] == y for row in ROWS), (x, y)
    assert EVERY or len(ROWS) <= 12


def meminfo(vm):
    """To the byte."""
    total = int(re.search(r"MemTotal: +(\d+)", vm.guest.check("cat /proc/meminfo")).group(1))
    assert vm.qmp.cmd("guest-meminfo")["total"] == total * 1024


def loadavg(vm):
    """As the guest prints it, when it stands still."""
    def same():
        before = vm.guest.check("cat /proc/loadavg").split()[:3]
        got = vm.qmp.cmd("guest-loadavg")
        after = vm.guest.check("cat /proc/loadavg").split()[:3]
        return before == after == [f"{got[f'load{n}m']:.2f}" for n in (1, 5, 15)]
    wait_for(same, 10, "the same load average")


def gate_and_wait(vm, gate, idle_us):
    """The host and the driver say what was asked for."""
    info = vm.query()
    assert info["gate"] == gate == driver_file(vm, "gate")
    used, other = ("hypercalls", "doorbells")[::1 if gate == "hypercall" else -1]
    assert info["stats"][used] > 0 and info["stats"][other] == 0, info["stats"]
    if gate == "doorbell" or idle_us == 0:
        assert driver_file(vm, "wait") == "spin-then-interrupt"
        assert info["wait"] == "interrupt" and info["stats"]["waits"] == 0
    elif idle_us == -1:
        assert driver_file(vm, "wait") == "vmlp"
        wait_for(lambda: vm.query()["wait"] == "vmlp", 5, "wait vmlp")
    else:
        assert driver_file(vm, "wait") == "vmlp-then-interrupt"
        assert info["stats"]["interrupts"] > 0


def works(cpu, smp, machine, gate, idle_us, kernel):
    """Boots, and compares."""
    append = "" if idle_us is None else f"rvmrpc.vmlp_idle_us={idle_us}"
    other = "doorbell" if gate == "hypercall" else "hypercall"
    with VM(kernel, cpu=cpu, smp=smp, machine=machine, append=append,
            device_opts=f"{other}=off") as vm:
        vendor = "AuthenticAMD" if cpu == "max" else "GenuineIntel"
        cpus = vm.qmp.cmd("guest-cpuinfo")["cpus"]
        assert [c["vendor"] for c in cpus] == [vendor] * smp, cpus
        assert vm.query()["release"].startswith(kernel + ".")
        for i in range(50):
            data = bytes([i]) * (i * 80)
            assert call(vm.qmp, "echo", "echo", data, timeout=5000) == ("ok", data)
        meminfo(vm)
        loadavg(vm)
        gate_and_wait(vm, gate, idle_us)
        assert vm.query()["stats"]["bad-replies"] == 0


for _row in ROWS:
    _values = dict(zip(FACTORS, _row))
    case(", ".join(f"{name}={'default' if value is None else value}"
                   for name, value in _values.items()), **_values)(works)


if __name__ == "__main__":
    main()
