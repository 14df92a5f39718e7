# SPDX-License-Identifier: GPL-2.0-or-later
"""How calls behave when there is more: bytes, clients, VMs, or trouble."""
import statistics
import sys
import time

from stand import NoAnswer

MIB = 1 << 20
HEADER = 64
SIZES = (0, 64, 1024, 4096, 16384, 65536, 262144, MIB - HEADER)
CLIENTS = (1, 2, 4, 8, 16, 32, 64)
VMS = (1, 2, 3, 4)


def median_us(samples):
    """Median of ns, in us."""
    return round(statistics.median(samples) / 1000, 3)


def to_and_fro(items, rounds):
    """Each item once a round, in the other direction than in the round before."""
    for number in range(rounds):
        yield from items if number % 2 == 0 else reversed(items)


def echo(stand, size, n):
    """ns of n calls that bring so many bytes there and back."""
    if stand.kernel:
        return stand.client("kernel", f"echo {stand.cpus[0]} {size}", n, 3)
    return stand.client("socket-echo", f"{stand.target['sock']} {size}", n, 3)


def payload(stand, n, rounds):
    """Echo of each size, and the guest's memcpy beside it."""
    calls = {size: [] for size in SIZES}
    copies = {size: [] for size in SIZES}
    for size in to_and_fro(SIZES, rounds):
        calls[size] += echo(stand, size, n)
        copies[size] += stand.guest_samples(f"memcpy {{n}} {size}", max(3, n // 4)) if size else [0]
    return [{"bytes": size, "n": len(calls[size]), "p50_us": median_us(calls[size]),
             "memcpy_us": median_us(copies[size])} for size in SIZES]


def flood(stand, ms, threads, vms=1):
    """Null calls per second."""
    if stand.kernel:
        # On the first CPU only: the second is the vCPU's.
        ns, calls = stand.client("kernel-flood", f"{stand.cpus[0]} {ms} {threads} {vms}", 2)
    else:
        ns, calls = stand.client("socket-flood", f"{stand.target['sock']} {threads} {ms}", 2)
    return round(calls * 1e9 / ns, 1)


def clients(stand, ms, rounds):
    """Throughput against clients: the median of the rounds."""
    speeds = {n: [] for n in CLIENTS}
    for n in to_and_fro(CLIENTS, rounds):
        speeds[n].append(flood(stand, ms, n))
    return [{"clients": n, "per_s": statistics.median(found)} for n, found in speeds.items()]


def machines(stand, ms):
    """Throughput and latency against VMs; the others are idle or are called too."""
    if not stand.kernel:
        return []
    others, rows = [], []
    for n in VMS:
        if n > 1:
            others.append(stand.make_vm(smp=1, memory="256M",
                                        extra=["-name", f"other{n},debug-threads=on"]).boot(180))
            time.sleep(1)
        rows.append({"vms": n, "per_s": flood(stand, ms, 8, n),
                     "idle_us": median_us(stand.client("kernel", f"null {stand.cpus[0]}", 50, 5))})
    for vm in others:
        vm.stop()
    return rows


STATES = (
    ("idle", ":"),
    ("CPU-bound on all vCPUs", "for c in $(grep -o processor /proc/cpuinfo); do "
     "/bench/bench_hog cpu >/dev/null 2>&1 & echo $! >>/tmp/hogs; done"),
    ("under memory pressure", "echo 1 >/proc/sys/vm/overcommit_memory; (echo 1000 >/proc/self/oom_score_adj; "
     "while :; do /bench/bench_hog memory 2048; done) >/dev/null 2>&1 & echo $! >/tmp/hogs"),
    ("user space stopped", "setsid sh -c 'sleep 1; kill -STOP -1; sleep 600' >/dev/null 2>&1 &"),
)
END_HOGS = ("for p in $(cat /tmp/hogs 2>/dev/null); do kill -9 $p; done; "
            "killall -9 bench_hog 2>/dev/null; rm -f /tmp/hogs; true")


def state_peers(stand):
    """(name, row, target) of whom to ask."""
    peers = [("QMP guest-meminfo", "qmp-meminfo", "qmp"), ("QGA guest-ping", "qga-ping", "qga"),
             ("QGA open, read, close", "qga-read", "qga"), ("SSH, new connection", "command", "ssh")]
    if stand.kernel:
        peers.insert(0, ("/dev/rvmrpc meminfo", "dev-meminfo", "vm"))
    if "sock" in stand.target:
        peers.insert(0, ("socket meminfo", "socket-meminfo", "sock"))
    if stand.vsock:
        peers.append(("vsock server", "vsock-new", "vsock"))
    return peers


def ask(stand, row, target, n, limit):
    """Median in us, or None."""
    try:
        return median_us(stand.client(row, stand.target[target], n, timeout=limit))
    except NoAnswer:
        return None


def balloon_moves(stand):
    """Whether the balloon's statistics are those of the last seconds."""
    age = ask_age(stand)
    return age if age is not None and age < 5e6 else None


def ask_age(stand):
    """Age in us."""
    try:
        return median_us(stand.client("balloon-age", stand.target["qmp"], 3, timeout=10))
    except NoAnswer:
        return None


def states(stand, n, limit):
    """Who answers, in each state of the guest. The last one ends the guest's user space."""
    rows = []
    for name, command in STATES:
        stand.vm.guest.check(command)
        time.sleep(8 if name == "user space stopped" else 3)
        row = {"state": name}
        for peer, kind, target in state_peers(stand):
            row[peer] = ask(stand, kind, target, 1 if kind == "command" else n, limit)
        row["virtio-balloon, age"] = balloon_moves(stand)
        rows.append(row)
        print(f"    {name}: done", file=sys.stderr, flush=True)
        if name != "user space stopped":
            stand.vm.guest.check(END_HOGS)
            time.sleep(1)
    return rows
