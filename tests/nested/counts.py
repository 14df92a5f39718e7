#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Exact counts: what a call into the guest costs on our KVM.

The server waits in VMLP, on a vCPU of its own that has no tick, and neither side spins. What counts is
KVM's own: gate calls and waits exactly, exits by the slope from N to 2N calls.
"""
import statistics

from ours import FAR, TICKLESS, dmesg, host, lkm, named, parse_vms, settled, shared_l2, status, traced

from harness import case, comment, driver_file, main, set_parameter, wait_for
from harness.rpc import DRIVER
from harness.wait import TIMES

NAME = "counted"
CALLS = 1000
# Enough that the guest's own exits, some per second, are few beside them.
SLOPE_CALLS = 2000
BURST = 100
# Of what is measured beside whatever else this machine does: the best of them.
TRIES = 3
SPIN = "/sys/module/rvmrpc_host/parameters/call_spin_ns"
ECHO = ("0x1", "0x0")
# Without the hypercalls that Linux makes for itself.
CPU = "host,kvm-pv-ipi=off,kvm-pv-sched-yield=off,kvm-pv-unhalt=off"


def guest():
    """The L2 of all cases: two vCPUs, the server's alone on its own. A client's next call comes when it was woken."""
    l1 = host()
    l1.guest.check(f"echo 0 >{SPIN}")
    vm = settled(shared_l2(l1, **named(NAME, 1, smp=2, append=TICKLESS, cpu=CPU)))
    assert driver_file(vm, "wait") == "vmlp"
    return vm


def kvm_stats(vm):
    """KVM's own counters of each vCPU: [{name: value}]."""
    paths = [cpu["qom-path"] for cpu in vm.qmp.cmd("query-cpus-fast")]
    answer = vm.qmp.cmd("query-stats", target="vcpu", vcpus=paths, providers=[
        {"provider": "kvm", "names": ["blocking", "exits", "hypercalls", "irq_injections"]}])
    found = {item["qom-path"]: {stat["name"]: stat["value"] for stat in item["stats"]}
             for item in answer}
    assert all(len(found[path]) == 4 for path in paths), answer
    return [found[path] for path in paths]


def growth(before, after):
    """Of each number."""
    return {key: after[key] - value for key, value in before.items() if isinstance(value, int)}


def no_counters(_):
    """For a snapshot that leaves the guest alone."""
    return {}


def guest_counters(vm):
    """What the guest itself counts: the driver's sleeps, and the interrupts of the device that the kernel took.
    One command: the shell is on a serial port, whose thousands of exits are KVM's, too.
    """
    sleeps, msix = vm.guest.check(
        f"cd {DRIVER}/counters && awk 'FILENAME == \"sleeps\" {{ print }} "
        "/rvmrpc/ { for (i = 2; i < NF && $i ~ /^[0-9]+$/; i++) n += $i } "
        "END { print n + 0 }' sleeps /proc/interrupts").split()
    return {"sleeps": int(sleeps), "msix": int(msix)}


def waiting(vm):
    """KVM's counters, and those of its vCPUs, while the server is in one and the same wait: its vCPU blocks, and
    nothing moves around that. Between two waits it can be as still, on a host that has no time for it.
    """
    def check():
        first = status(vm.l1, NAME)
        cpus = kvm_stats(vm)
        if first["vmlp"] and cpus[1]["blocking"] and not first["in_flight"] and status(vm.l1, NAME) == first:
            return first, cpus
        return None
    return wait_for(check, 60, "a server that waits", interval=0.2)


def snapshot(vm, ask):
    """All counters of a server that waits. While the guest is asked, idle waits may end and begin anew, but nothing
    else happens.
    """
    def check():
        first, _ = waiting(vm)
        inside = ask(vm)
        last, cpus = waiting(vm)
        moved = growth(first, last)
        if moved["hypercalls"] != moved["interrupted"]:
            return None
        return {**last, **inside, **{f"cpu{number}.{key}": value for number, cpu in enumerate(cpus)
                                     for key, value in cpu.items()}}
    return wait_for(check, 60, "counters of a server that only waits", interval=0.2)


def null_calls(l1, number):
    """Has the host's kernel make them, one after another; how KVM's counters grew while it did, and no longer."""
    dmesg(l1)
    code, text = l1.guest.run(f"/clients/vms && insmod /clients/rvmrpc_test_client.ko uuid={FAR}1 threads=1 calls=0 "
                              f"nulls={number} && /clients/vms && rmmod rvmrpc_test_client", 120)
    log = dmesg(l1)
    assert code == 0 and f"null calls {number} " in log, (text, log)
    before, after = (parse_vms(line)[NAME] for line in text.splitlines())
    return growth(before, after)


def measure(vm, calls, ask=no_counters):
    """The counters' growth over some null calls, from one wait to another. The snapshots take their time, in which
    interrupts end waits, too: so "beside" is of the calls' own time, the gate calls without those of the calls.
    """
    before = snapshot(vm, ask)
    beside = null_calls(vm.l1, calls)["hypercalls"] - calls
    return {**growth(before, snapshot(vm, ask)), "beside": beside}


@case("gate calls = calls + waits that an interrupt ended; no exit to user space, no MSI-X", timeout=400)
def gate_calls():
    """Exactly: RVMRPC_MAIN brings an answer and waits for the next request. Where another thread wanted the CPU the
    server has rung or slept instead, and may have met a request without a gate call; so may it where the client
    found its answer just before it slept, and had called again before the server's next look. How often, and how many
    interrupts come meanwhile, is the machine's matter: in the quietest of some rounds seldom.
    """
    for _ in range(TRIES):
        grown = measure(guest(), CALLS, guest_counters)
        comment(str({key: value for key, value in grown.items() if value}))
        assert grown["completed"] == grown["calls"] == CALLS
        met = CALLS + grown["interrupted"] - grown["hypercalls"]
        assert grown["kicks"] <= met <= grown["sleeps"] + grown["rings"] + CALLS / 100, (met, grown)
        assert grown["user_exits"] == 0
        # One that the host lets wait for 2 ms is interrupted again.
        assert grown["kicks"] <= grown["msix"] <= grown["kicks"] + grown["rekicks"], grown
        assert grown["kicks"] <= grown["sleeps"], grown
        assert grown["refused_calls"] == grown["failed"] == grown["timed_out"] == 0
        # Where KASAN's host takes its time the server sleeps more often.
        if grown["rings"] + grown["sleeps"] < CALLS / 20 * TIMES and grown["beside"] < CALLS / 5:
            return
    raise AssertionError(grown)


@case("KVM's own count of hypercalls is ours", timeout=240)
def hypercalls():
    """All on the server's vCPU."""
    grown = measure(guest(), CALLS)
    assert grown["cpu1.hypercalls"] == grown["hypercalls"], grown
    assert grown["cpu0.hypercalls"] == 0, grown


@case("the slope of exits from N to 2N calls is at most 1.2", timeout=600)
def slope():
    """The median of three; the guest's own interrupts, and the host's tick, add to any one, and to all when it is
    slow.
    """
    vm = guest()
    for _ in range(TRIES):
        slopes = []
        for _ in range(3):
            once, twice = measure(vm, SLOPE_CALLS), measure(vm, 2 * SLOPE_CALLS)
            slopes.append((twice["cpu1.exits"] - once["cpu1.exits"]) / SLOPE_CALLS)
        comment(f"exits per call: {[round(s, 3) for s in slopes]}")
        if 0.9 <= statistics.median(slopes) <= 1.2:
            return
    raise AssertionError(slopes)


def falls_asleep(vm, work):
    """Does it, and waits until the driver has gone to sleep since: a busy host may not let it before the next call."""
    def sleeps():
        return int(vm.guest.check(f"cat {DRIVER}/counters/sleeps"))
    before = sleeps()
    work()
    wait_for(lambda: sleeps() > before, 30, "a driver that sleeps", interval=0.05)


@case("a driver that sleeps: one MSI-X and at most one ring per call, no gate call, no exit to user space",
      timeout=300)
def asleep():
    """vmlp_idle_us=0, for comparison. A guest that this host lets wait for 2 ms is interrupted again."""
    vm = guest()
    falls_asleep(vm, lambda: set_parameter(vm, "vmlp_idle_us", 0))
    l1 = vm.l1
    before = status(l1, NAME)
    for _ in range(50):
        falls_asleep(vm, lambda: lkm_calls(l1))
    after = status(l1, NAME)
    grown = growth(before, after)
    comment(str({key: value for key, value in grown.items() if value}))
    set_parameter(vm, "vmlp_idle_us", -1)
    assert grown["completed"] == grown["kicks"] == grown["interrupts"] - grown["rekicks"] == 50, grown
    assert grown["rings"] <= 50, grown
    assert grown["hypercalls"] == grown["user_exits"] == 0, grown


def traced_burst(vm):
    """(seconds that each of its calls took, the same by the trace's own clock) of one burst."""
    l1 = vm.l1
    l1.guest.check(f"echo 200000 >{SPIN}")
    start = status(l1, NAME)
    with traced(l1) as trace:
        lkm(l1, "rvmrpc_test_client", f"uuid={FAR}1 threads=1 calls=0 held={BURST} size=64")
    l1.guest.check(f"echo 0 >{SPIN}")
    grown = growth(start, status(l1, NAME))
    begins, ends = ([words for event, words in trace if event == f"rvmrpc_host_call_{what}" and
                     (words["module"], words["procedure"]) == ECHO] for what in ("begin", "end"))
    comment(f"{len(begins)} begin, {len(ends)} end, {grown['completed']} counted")
    assert len(begins) == len(ends) == BURST <= grown["completed"]
    assert all(begin["arglen"] == "64" for begin in begins) and all(end["status"] == "0" for end in ends)
    return [int(end["ns"]) / 1e9 for end in ends], [end["at"] - begin["at"] for begin, end in zip(begins, ends)]


@case("each call in place is traced once, with its own time", timeout=300)
def in_place():
    """An emulated CPU is too slow for a burst so close that it looks at the clock once per tick. Where the machine does
    something else between the two looks at their clocks, the times differ: in one burst of some they do not.
    """
    vm = guest()
    for _ in range(TRIES):
        times, between = traced_burst(vm)
        comment(f"{sum(times):.4f} s, by the trace's own clock {sum(between):.4f} s")
        assert all(after >= 0 for after in between)
        if 0.5 * sum(between) < sum(times) < 1.5 * sum(between) + 0.005:
            return
    raise AssertionError((times, between))


def lkm_calls(l1):
    """One null call of the host's kernel."""
    l1.guest.check(f"insmod /clients/rvmrpc_test_client.ko uuid={FAR}1 threads=1 calls=0 nulls=1 && "
                   "rmmod rvmrpc_test_client")


if __name__ == "__main__":
    main()
