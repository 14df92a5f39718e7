#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A client in the host's kernel, by rvmrpc_host.ko, nested: beside two kernel threads that spin on two cache lines.

    tests/bench/hostkernel.py [ROUNDS [CALLS]]

Prints JSON. No time of it is a hardware time; the ratios have both parts from one boot and the same two CPUs.
"""
import collections
import json
import pathlib
import re
import statistics
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "stock"), str(TESTS / "vm")]

# pylint: disable=wrong-import-position
import stand as stock_stand  # noqa: E402
from hosts import StockL1, StockL2  # noqa: E402

from harness import BUILD, VM, counters, driver_file, wait_for  # noqa: E402

# Room for calls of 1 MiB; the host may spin as long as this emulation's wake-ups take.
WINDOW = {"size": "16M", "slots": 4, "request": "1M", "response": "1M", "spin-us": 1000}
SIZES = (4096, 65536, 1 << 20)
FOLDER = "/sys/kernel/debug/rvmrpc_bench"
KVM_STATS = "/sys/kernel/debug/kvm"
# What a call in a burst may cost: exits to user space, hypercalls; and rings and interrupts, by the driver's count.
EVENTS = ("mmio_exits", "io_exits", "signal_exits", "hypercalls")


class BenchL1(StockL1):
    """/host has the modules, /images the guest's initramfs with its half of the benchmark."""

    # Not all: L1's bus is full.
    mounts = {**{tag: StockL1.mounts[tag] for tag in ("nested", "clients", "tools", "qemu-7.2")}, "host": (BUILD / "host" / "6.12", True), "images": (BUILD / "bench", True)}

    def boot(self, timeout=120.0):
        super().boot(timeout)
        self.guest.check("insmod /host/rvmrpc_host.ko call_spin_ns=5000000 && insmod /host/rvmrpc_bench.ko")
        return self


class BenchL2(StockL2):
    """One vCPU, on L1's second CPU."""

    def _images(self):
        return "/nested/vmlinuz", "/images/guest-initramfs.cpio"


def samples(l1, command):
    """ns of each block or call, from L1's first CPU."""
    l1.guest.check(f"cd {FOLDER} && taskset 1 sh -c 'echo {command} >run' && cat samples >/share/samples", 120)
    data = (l1.share / "samples").read_bytes()
    return [int.from_bytes(data[i:i + 8], "little") for i in range(0, len(data), 8)]


def events(l1, vm, before):
    """Those that cost an exit, so far, and all exits."""
    # The guest's shell costs exits of its own: it is asked outside of what is counted.
    own = counters(vm) if before else None
    text = l1.guest.check(f"cd {KVM_STATS} && grep . {' '.join(EVENTS)} exits /dev/null")
    found = {name: int(value) for name, value in re.findall(r"(\w+):(\d+)", text)}
    own = own or counters(vm)
    return {"kvm": sum(found[name] for name in EVENTS), "rings": own["rings"], "interrupts": own["interrupts"],
            "exits": found["exits"]}


def pin(l1, vm):
    """vCPU to L1's second CPU, QEMU's others to its first."""
    l1.guest.check(f"for t in /proc/{vm.process.pid}/task/*; do case $(cat $t/comm) in CPU*) mask=2 ;; *) mask=1 ;; "
                   "esac; taskset -p $mask ${t##*/} >/dev/null; done")


def burst(l1, vm, rounds, calls):
    """Null calls, and the limit, in turn."""
    ratios, spins, nulls, cost = [], [], [], collections.Counter()
    for _ in range(rounds):
        spin = statistics.median(samples(l1, f"spin {calls} 1"))
        # The guest's driver and the channel learn to spin.
        samples(l1, "burst 640")
        before = events(l1, vm, True)
        blocks = samples(l1, f"burst {calls}")
        cost.update({key: value - before[key] for key, value in events(l1, vm, False).items()})
        null = statistics.median(blocks)
        ratios.append(null / spin)
        spins.append(spin)
        nulls.append(null)
        best = min(blocks)
    parts = {f"{word}_ns": statistics.median(samples(l1, f"{word} 6400")) for word in ("clock", "refused")}
    copying = statistics.median(samples(l1, f"null {min(calls, 20000)}"))
    n = rounds * calls
    return {"n": n, "spin_ns": statistics.median(spins), "null_ns": statistics.median(nulls),
            "null_copying_ns": copying, "burst_S": round(statistics.median(ratios), 2),
            "null_best_ns": best, "burst_events": round((sum(cost.values()) - cost["exits"]) / n, 4),
            **parts, **{key: round(value / n, 4) for key, value in cost.items()}}


def in_place(l1, vm, rounds, n):
    """Echoes whose bytes never leave the window, and the guest's memcpy of as many."""
    vm.guest.check("insmod /bench/rvmrpc_bench_guest.ko")
    rows = []
    for size in SIZES:
        calls, copies = [], []
        count = n if size > 65536 else 10 * n
        for _ in range(rounds):
            samples(l1, f"held 20 {size}")
            calls += samples(l1, f"held {count} {size}")
            text = vm.guest.check(f"cd {FOLDER} && echo memcpy {n} {size} >run && cat samples", 60)
            copies += [int(word) for word in text.split()]
        rows.append({"bytes": size, "p50_us": round(statistics.median(calls) / 1000, 2),
                     "memcpy_us": round(statistics.median(copies) / 1000, 2),
                     "ratio": round(statistics.median(copies) / statistics.median(calls), 2)})
    return rows


def main():
    """All of it."""
    rounds, calls = (int(word) for word in [*sys.argv[1:], *("5", "9600")[len(sys.argv) - 1:]])
    stock_stand.WINDOW.update(WINDOW)
    with BenchL1() as l1, BenchL2(l1, smp=1, memory="256M", append="rvmrpc.spin_us=1000") as vm:
        l1.daemon()
        wait_for(lambda: vm.query().get("proxy") == "kernel" and driver_file(vm, "epoch"), 30, "the channel",
                 interval=0.2)
        pin(l1, vm)
        print("# clock:", l1.guest.check("cat /sys/devices/system/clocksource/*/current_clocksource").strip())
        print(json.dumps({"burst": burst(l1, vm, rounds, calls), "in_place": in_place(l1, vm, rounds, 40)}, indent=1))
    for guest in list(VM.live):
        guest.stop()


if __name__ == "__main__":
    main()
