# SPDX-License-Identifier: GPL-2.0-or-later
"""The window itself: a client that maps it, beside two threads that spin on two cache lines.

The client is the host's end of the window of one guest that has QEMU's ivshmem
and nothing of our QEMU: what a call costs without a daemon between.
"""
import json
import shlex
import statistics

import waiting
from stand import NoAnswer, Timeout, settle, wait_for

SLOTS, BYTES, SIZE = 4, 1 << 20, 1 << 24
SIZES = (4096, 65536, 1 << 20)
CALLS = 20000
# Between two calls by the daemon are four wake-ups, which take the emulated host longer than the defaults' 200 us.
SPIN_US = {"nested": 1000}
# Calls in a burst may cost that: to exit to user space, to be interrupted, to make a hypercall.
EVENTS = ("mmio_exits", "io_exits", "signal_exits", "kvm_hypercalls")


class Client:
    """The program, with a pipe to it; it stays until the block ends."""

    def __init__(self, stand):
        self.stand = stand
        self.base = f"{stand.folder}/window"
        self.socket = f"{self.base}.sock"
        self.lines = 0

    def __enter__(self):
        cpus = " ".join(str(cpu) for cpu in self.stand.cpus)
        self.stand.sh(f"rm -f {self.base}.*; mkfifo {self.base}.in; "
                      f"({self.stand.bench}/bench_window {self.socket} {cpus} {SLOTS} {BYTES} {SIZE} "
                      f"<{self.base}.in >{self.base}.out 2>&1 &) ; (exec 1>{self.base}.in; "
                      f"setsid sh -c 'echo $$ >{self.base}.pid; exec sleep 100000' &)")
        self.answer()
        return self

    def __exit__(self, *_):
        self.stand.sh(f"kill $(cat {self.base}.pid)")

    def answer(self, timeout=60):
        """The next line that it prints."""
        self.lines += 1

        def look():
            text = self.stand.sh(f"sed -n {self.lines}p {self.base}.out")
            return text if text.endswith("\n") else None
        try:
            return json.loads(wait_for(look, timeout, "an answer of bench_window", interval=0.1))
        except (Timeout, ValueError) as error:
            raise NoAnswer(f"bench_window: {error}") from None

    def command(self, text, timeout=60):
        """One command's answer, whose calls were all answered with OK."""
        self.stand.sh(f"echo {shlex.quote(text)} >{self.base}.in")
        answer = self.answer(timeout)
        if answer.get("status"):
            raise NoAnswer(f"bench_window {text}: status {answer['status']} after {len(answer['ns'])}")
        return answer


def start_guest(stand, client):
    """A guest of that client, with the driver connected."""
    vm = stand.make_vm(smp=1, memory="256M", device=False, extra=[
        "-name", "window,debug-threads=on", "-chardev", f"socket,path={client.socket},id=window",
        "-device", "ivshmem-doorbell,vectors=1,chardev=window"])
    stand.vm = vm.boot()
    vm.guest.check("modprobe rvmrpc && insmod /bench/rvmrpc_bench_guest.ko")
    if not client.command("wait 10000")["connected"]:
        raise NoAnswer("the guest's driver did not connect")
    stand.pin_vm(vm)
    settle(1)
    return vm


def burst(stand, client, vm, rounds, calls):
    """Rounds of both, and what the calls cost beside time."""
    ratios, spins, nulls, kicks, events, exits = [], [], [], 0, 0, 0
    for _ in range(rounds):
        spin = statistics.median(client.command(f"spin {calls}")["ns"])
        before = stand.counters(vm)
        null = client.command(f"null {calls}")
        after = stand.counters(vm)
        ratios.append(statistics.median(null["ns"]) / spin)
        spins.append(spin)
        nulls.append(statistics.median(null["ns"]))
        kicks += null["kicks"] + null["rings"]
        events += sum(after.get(key, 0) - before.get(key, 0) for key in EVENTS)
        exits += (after.get("exits") or 0) - (before.get("exits") or 0)
    n = rounds * calls
    return {"n": n, "spin_ns": round(statistics.median(spins)), "null_ns": round(statistics.median(nulls)),
            "burst_S": round(statistics.median(ratios), 2), "burst_events": round((kicks + events) / n, 4),
            "exits": round(exits / n, 4) if stand.accel != "tcg" else None}


def in_place(stand, client, rounds, n):
    """Echoes whose bytes never leave the window, and the guest's memcpy of as many."""
    found = {size: ([], []) for size in SIZES}
    for _ in range(rounds):
        for size, (calls, copies) in found.items():
            calls += client.command(f"echo {size} {n if size > 65536 else 10 * n}")["ns"]
            copies += stand.guest_samples(f"memcpy {{n}} {size}", n)
    return [{"bytes": size, "p50_us": round(statistics.median(calls) / 1000, 2),
             "memcpy_us": round(statistics.median(copies) / 1000, 2),
             "ratio": round(statistics.median(copies) / statistics.median(calls), 2)}
            for size, (calls, copies) in found.items()]


def spin_us(stand):
    """How long either side spins, at most."""
    return SPIN_US.get(stand.accel, 200)


class Daemon:
    """rvmrpcd for one VM, until the block ends."""

    def __init__(self, stand):
        self.stand = stand
        self.base = f"{stand.folder}/rvmrpcd"

    def __enter__(self):
        self.stand.sh(f"rm -rf {self.base}; mkdir -p {self.base}/vms; "
                      f"printf '[daemon]\\nivshmem-dir={self.base}\\nsocket-dir={self.base}\\nkernel=off\\n"
                      f"vm-dir={self.base}/vms\\n[window]\\nspin-us={spin_us(self.stand)}\\n' >{self.base}/conf; "
                      f"({self.stand.tools}/rvmrpcd --config {self.base}/conf --vm name=web >{self.base}/log 2>&1 & "
                      f"echo $! >{self.base}/pid)")
        wait_for(lambda: self.stand.sh(f"test -S {self.base}/web.sock && echo yes || true"), 20,
                 "rvmrpcd's socket", interval=0.1)
        return self

    def __exit__(self, *_):
        self.stand.sh(f"kill $(cat {self.base}/pid)")


def start_stock(stand, daemon):
    """A guest of rvmrpcd that has qemu-ga, too."""
    vm = stand.vm = stand.make_vm(smp=1, memory="256M", device=False, extra=[
        "-name", "stock,debug-threads=on", "-chardev", f"socket,path={daemon.base}/web.ivshmem,id=window",
        "-device", "ivshmem-doorbell,vectors=1,chardev=window", "-device", "virtio-serial-pci,id=serial",
        "-chardev", f"socket,id=qga,path={daemon.base}/qga.sock,server=on,wait=off",
        "-device", "virtserialport,bus=serial.0,chardev=qga,name=org.qemu.guest_agent.0"]).boot()
    vm.guest.check(f"modprobe rvmrpc spin_us={spin_us(stand)}; mkdir -p /var/run /var/log")
    stand.start_agent()

    def answers(row, target):
        try:
            return stand.client(row, target, 1, timeout=20)
        except NoAnswer:
            return None
    for row, target in (("socket-null", "web.sock"), ("qga-ping", "qga.sock")):
        wait_for(lambda r=row, t=target: answers(r, f"{daemon.base}/{t}"), 60, target, interval=0.5)
    settle(1)
    return vm


def by_daemon(stand, rounds, n):
    """The same facts by rvmrpcd's socket and by qemu-ga, of one guest."""
    rows = {"null": ("socket-null", "web.sock"), "meminfo": ("socket-meminfo", "web.sock"),
            "qga": ("qga-read", "qga.sock")}
    samples = {name: [] for name in rows}
    with Daemon(stand) as daemon:
        vm = start_stock(stand, daemon)
        try:
            for _ in range(rounds):
                for name, (row, target) in rows.items():
                    samples[name] += stand.client(row, f"{daemon.base}/{target}", n if name != "qga" else n // 4, 3)
        finally:
            vm.stop()
            stand.vm = None
    found = {name: statistics.median(ns) / 1000 for name, ns in samples.items()}
    return {**{f"{name}_us": round(us, 1) for name, us in found.items()},
            "stock_meminfo_vs_qga": round(found["qga"] / found["meminfo"], 1)}


JOB_MODES = (("no driver", False), ("window, idle", True), (waiting.CONTROL, False))


def use_driver(vm, wanted):
    """Loads it, and waits until it has its channel; or removes it."""
    vm.guest.check("test -d /sys/module/rvmrpc || modprobe rvmrpc; "
                   "until grep -q '^connected' /sys/bus/pci/drivers/rvmrpc/0*/state; do sleep 0.1; done"
                   if wanted else "! test -d /sys/module/rvmrpc || rmmod rvmrpc", 30)


def jobs(stand, seconds, turns, vcpus):
    """The speed of a job that computes beside a driver that nobody calls, and beside none."""
    rows = []
    with Daemon(stand) as daemon:
        for smp in vcpus:
            vm = stand.make_vm(smp=smp, memory="192M", device=False, extra=[
                "-name", "job,debug-threads=on", "-chardev", f"socket,path={daemon.base}/web.ivshmem,id=window",
                "-device", "ivshmem-doorbell,vectors=1,chardev=window"]).boot(180)
            costs = {name: waiting.Cost() for name, _ in JOB_MODES}
            speeds = {name: [] for name, _ in JOB_MODES}
            for turn in range(turns):
                for name, wanted in JOB_MODES if turn % 2 == 0 else reversed(JOB_MODES):
                    use_driver(vm, wanted)
                    speeds[name].append(waiting.one_job(stand, vm, smp, seconds, costs[name]))
            rows += [{"vcpus": smp, "mode": name, **costs[name].row(), **waiting.compared(speeds, name)}
                     for name, _ in JOB_MODES]
            vm.stop()
    return rows


def measure(stand, size):
    """All of it."""
    rounds, divide = size["rounds"], size["divide"]
    daemon = by_daemon(stand, rounds, 100 // divide * 4)
    job = jobs(stand, size["job_s"], size["turns"], size["vcpus"])
    with Client(stand) as client:
        vm = start_guest(stand, client)
        try:
            return {"daemon": daemon, "jobs": job, "burst": burst(stand, client, vm, rounds, CALLS // divide),
                    "in_place": in_place(stand, client, rounds, max(20, 40 // divide)),
                    "asleep_us": round(statistics.median(
                        client.command(f"sleepy {max(5, 40 // divide)} 20")["ns"]) / 1000, 1)}
        finally:
            vm.stop()
            stand.vm = None
