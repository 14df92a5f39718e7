# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest pays for waiting: each wait mode, idle and with a job that computes."""
import math
import statistics
import sys
import time

MODES = (("no driver", None), ("interrupt", 0), ("adaptive", 50), ("VMLP", -1))
TICKS = 100     # per second, of /proc/PID/stat
DRIVER = "/sys/bus/pci/drivers/rvmrpc/0000:*"
SNAPSHOT = ("cat /proc/uptime /proc/loadavg; "
            "for p in /proc/[0-9]*; do read -r c <$p/comm; "
            "if [ \"$c\" = rvmrpc ]; then s=$(cat $p/schedstat); [ -z \"$s\" ] || echo sched $s; fi; "
            "done 2>/dev/null; "
            f"cd {DRIVER}/counters 2>/dev/null && echo polls $(cat polls) && "
            "echo irqs $(cat interrupts); true")


def snapshot(vm):
    """Uptime, load, the server thread's run time, its polls and interrupts."""
    lines = [line.split() for line in vm.guest.check(SNAPSHOT).splitlines()]
    found = {"uptime": float(lines[0][0]), "load": float(lines[1][0]), "run_ns": 0,
             "polls": 0, "irqs": 0}
    for words in lines[2:]:
        if words[0] == "sched":
            found["run_ns"] = int(words[1])
        else:
            found[words[0]] = int(words[1])
    return found


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


def rates(stand, vm, work):
    """What work() cost, per second; and what it returned."""
    before, ticks = snapshot(vm), stand.cpu_ticks(vm)
    result = work()
    after, ticks_after = snapshot(vm), stand.cpu_ticks(vm)
    seconds = after["uptime"] - before["uptime"]
    fade = math.exp(-seconds / 60)
    return {"server_percent": round((after["run_ns"] - before["run_ns"]) / seconds / 1e7, 2),
            "gate_calls": round((after["polls"] - before["polls"]) / seconds, 2),
            "irqs": round((after["irqs"] - before["irqs"]) / seconds, 2),
            "load": round((after["load"] - before["load"] * fade) / (1 - fade), 2),
            "host_cpu": round((ticks_after - ticks) / TICKS / seconds, 3)}, result


def job(vm, threads, seconds):
    """Events per second of sysbench, which computes primes."""
    text = vm.guest.check(f"/bench/sysbench cpu --threads={threads} --time={seconds} "
                          f"--cpu-max-prime=2000 run", seconds + 60)
    for line in text.splitlines():
        if "events per second" in line:
            return float(line.split(":")[1])
    raise RuntimeError(text)


def measure(stand, idle_s, job_s, repeats):
    """A guest for each number of vCPUs; jobs interleaved over the modes."""
    rows = []
    for smp in (1, 2):
        vm = stand.make_vm(smp=smp, memory="256M", extra=["-name", f"waits{smp}"]).boot(180)
        speeds = {name: [] for name, _ in MODES}
        cost = {}
        for name, idle_us in MODES:
            set_mode(vm, idle_us)
            cost[name, "idle"], _ = rates(stand, vm, lambda: time.sleep(idle_s))
            print(f"    waiting, {smp} vCPUs, idle, {name}: done", file=sys.stderr, flush=True)
        for turn in range(repeats):
            for name, idle_us in MODES if turn % 2 == 0 else reversed(MODES):
                set_mode(vm, idle_us)
                cost[name, "job"], speed = rates(stand, vm, lambda: job(vm, smp, job_s))
                speeds[name].append(speed)
        rows += [row_of(smp, name, load, cost[name, load], speeds)
                 for load in ("idle", "job") for name, _ in MODES]
        vm.stop()
        print(f"    waiting, {smp} vCPUs: done", file=sys.stderr, flush=True)
    return rows


def row_of(smp, name, load, cost, speeds):
    """One line of the table."""
    row = {"vcpus": smp, "mode": name, "guest": load, **cost}
    if load == "job":
        base = statistics.median(speeds["no driver"])
        mine = sorted(speeds[name])
        row["speed"] = round(statistics.median(mine) / base, 3)
        row["noise"] = round((mine[-1] - mine[0]) / base, 3)
    return row
