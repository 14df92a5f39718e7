# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest pays for waiting: each wait mode, idle and with a job that computes."""
import statistics
import sys
import time

import rows as calls

MODES = (("no driver", None), ("interrupt", 0), ("adaptive", 50), ("VMLP", -1))
# A mode measured a second time: how it differs from itself is noise.
CONTROL = "no driver, again"
VCPUS = (1, 2)
DRIVER = "/sys/bus/pci/drivers/rvmrpc/0000:*"
SNAPSHOT = ("cat /proc/uptime; "
            "for p in /proc/[0-9]*; do read -r c <$p/comm; "
            "if [ \"$c\" = rvmrpc ]; then s=$(cat $p/schedstat); [ -z \"$s\" ] || echo sched $s; fi; "
            "done 2>/dev/null; "
            f"cd {DRIVER}/counters 2>/dev/null && echo waits $(cat polls) && "
            "echo events $(($(cat polls) + $(cat sleeps) + $(cat rings) + $(cat interrupts))); true")
RATES = ("run_ns", "waits", "events", "exits", "ran_ns")


def snapshot(stand, vm):
    """The guest's uptime, its server thread's run time, what the driver counts; what the host counts."""
    lines = [line.split() for line in vm.guest.check(SNAPSHOT).splitlines()]
    found = {"uptime": float(lines[0][0]), "run_ns": 0, "waits": 0, "events": 0}
    for words in lines[1:]:
        found["run_ns" if words[0] == "sched" else words[0]] = int(words[1])
    host = stand.counters(vm)
    return {**found, "exits": host["exits"], "ran_ns": host["ran_ns"],
            "queued_ns": host["vcpu_queued_ns"]}


class Cost:
    """Sums over one or more times that are measured."""

    def __init__(self):
        self.seconds = 0.0
        self.sums = dict.fromkeys(RATES, 0)

    def add(self, before, after):
        """One time."""
        self.seconds += after["uptime"] - before["uptime"]
        for key in RATES:
            gone = None if before[key] is None else after[key] - before[key]
            self.sums[key] = None if gone is None else self.sums[key] + gone

    def row(self):
        """Per second."""
        rate = {key: None if value is None else value / self.seconds
                for key, value in self.sums.items()}
        return {"server_percent": round(rate["run_ns"] / 1e7, 3), "waits": round(rate["waits"], 2),
                "events": round(rate["events"], 2), "seconds": round(self.seconds), "host_cpu": round(rate["ran_ns"] / 1e9, 4),
                "exits": None if rate["exits"] is None else round(rate["exits"], 1)}


def set_mode(vm, idle_us):
    """Loads and sets the driver, or removes it."""
    loaded = not vm.guest.run("test -d /sys/module/rvmrpc")[0]
    if idle_us is None:
        if loaded:
            vm.guest.check("rmmod rvmrpc")
        return
    if not loaded:
        vm.guest.check("modprobe rvmrpc")
        vm.wait_state("connected", 60)
    vm.guest.check(f"echo {idle_us} >/sys/module/rvmrpc/parameters/vmlp_idle_us")


def guest_of(stand, smp, name):
    """One that nothing but its init runs in."""
    return stand.make_vm(smp=smp, memory="256M",
                         extra=["-name", f"{name},debug-threads=on"]).boot(180)


def load_of(vm, has_driver):
    """The load average of the last minute: by QMP, since a shell that reads it is load."""
    if has_driver:
        return round(vm.qmp.cmd("guest-loadavg")["load1m"], 2)
    return float(vm.guest.check("cat /proc/loadavg").split()[0])


def idle(stand, seconds, vcpus=VCPUS):
    """Guests of all modes at once, left alone for so long that their start is gone from the load average."""
    todo = [(smp, *mode) for smp in vcpus for mode in MODES]
    rows = []
    while todo:
        rows += idle_together(stand, seconds, todo[:stand.at_once])
        del todo[:stand.at_once]
        print(f"    idle: {len(todo)} left", file=sys.stderr, flush=True)
    return rows


def idle_together(stand, seconds, cases):
    """As many as there is room for."""
    vms = []
    for smp, _, idle_us in cases:
        vms.append(guest_of(stand, smp, f"idle{smp}-{idle_us}"))
        set_mode(vms[-1], idle_us)
    before = [snapshot(stand, vm) for vm in vms]
    time.sleep(seconds)
    loads = [load_of(vm, idle_us is not None) for vm, (_, _, idle_us) in zip(vms, cases)]
    rows = []
    for vm, (smp, name, _), start, load in zip(vms, cases, before, loads):
        cost = Cost()
        cost.add(start, snapshot(stand, vm))
        rows.append({"vcpus": smp, "mode": name, **cost.row(), "load": float(load)})
        vm.stop()
    return rows


def job(vm, threads, seconds):
    """Events per second of sysbench, which computes primes."""
    text = vm.guest.check(f"/bench/sysbench cpu --threads={threads} --time={seconds} "
                          f"--cpu-max-prime=2000 run", seconds + 60)
    for line in text.splitlines():
        if "events per second" in line:
            return float(line.split(":")[1])
    raise RuntimeError(text)


def one_job(stand, vm, smp, seconds, cost):
    """Its speed, less the time that its vCPUs stood in the host's queue for a CPU: that is other work's doing."""
    before, start = snapshot(stand, vm), time.monotonic()
    speed = job(vm, smp, seconds)
    after, wall = snapshot(stand, vm), time.monotonic() - start
    cost.add(before, after)
    queued = (after["queued_ns"] - before["queued_ns"]) / 1e9 / smp
    return speed / max(0.1, 1 - queued / wall)


def jobs(stand, seconds, repeats, vcpus=VCPUS):
    """Short jobs, interleaved over the modes, to and fro."""
    rows = []
    modes = [*MODES, (CONTROL, None)]
    for smp in vcpus:
        vm = guest_of(stand, smp, f"job{smp}")
        costs = {name: Cost() for name, _ in modes}
        speeds = {name: [] for name, _ in modes}
        for turn in range(repeats):
            for name, idle_us in modes if turn % 2 == 0 else reversed(modes):
                set_mode(vm, idle_us)
                speeds[name].append(one_job(stand, vm, smp, seconds, costs[name]))
        rows += [{"vcpus": smp, "mode": name, **costs[name].row(), **compared(speeds, name)}
                 for name, _ in modes]
        vm.stop()
        print(f"    jobs, {smp} vCPUs: done", file=sys.stderr, flush=True)
    return rows


def compared(speeds, name):
    """Speed beside no driver, of the same turn: the median of all turns, and its 95 % interval."""
    ratios = [mine / base for mine, base in zip(speeds[name], speeds[MODES[0][0]])]
    low, high = calls.bootstrap(lambda rng: calls.redrawn_median(rng, ratios))
    return {"speed": round(statistics.median(ratios), 3), "turns": len(ratios), "low": low, "high": high}
