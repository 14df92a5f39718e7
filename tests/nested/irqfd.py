#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A driver that sleeps is woken by KVM through the irqfd, without QEMU's help."""
from ours import FAR, dmesg, host, named, settled, shared_l2, status

from harness import Timeout, case, comment, counters, driver_file, main

NAME = "asleep"
CALLS = 40


def guest():
    """A driver that never waits in the host; QEMU's threads have names."""
    vm = settled(shared_l2(host(), **named(f"{NAME},debug-threads=on", 1, smp=2, memory="192M",
                                           append="rvmrpc.vmlp_idle_us=0 rvmrpc.spin_us=0")))
    assert driver_file(vm, "wait") == "interrupt"
    return vm


def call_script(calls):
    """Single calls, with a pause in which the driver falls asleep again."""
    return (f"i=0; while [ $i -lt {calls} ]; do usleep 50000; insmod /clients/rvmrpc_test_client.ko "
            f"uuid={FAR}1 threads=1 calls=0 nulls=1 && rmmod rvmrpc_test_client || exit 1; "
            "i=$((i + 1)); done")


def grown(before, after, keys):
    """The growth of some counters."""
    return {key: after[key] - before[key] for key in keys}


@case("each call is one interrupt, and KVM's", timeout=180)
def interrupts():
    """As the host counts kicks, so the driver counts interrupts; it may take the host's second for a slow start."""
    vm = guest()
    l1 = vm.l1
    before, inside = status(l1, NAME), counters(vm)
    l1.guest.check(call_script(CALLS), timeout=120)
    after, inside_after = status(l1, NAME), counters(vm)
    kvm = grown(before, after, ("calls", "completed", "kicks", "waits", "user_exits"))
    driver = grown(inside, inside_after, ("calls", "interrupts"))
    comment(f"KVM: {kvm}; driver: {driver}")
    assert kvm == {"calls": CALLS, "completed": CALLS, "kicks": CALLS, "waits": 0, "user_exits": 0}
    assert driver["calls"] == CALLS
    assert CALLS <= driver["interrupts"] <= CALLS + after["rekicks"] - before["rekicks"], driver


@case("with all of QEMU but its vCPU threads frozen, calls are answered", timeout=180)
def frozen():
    """A tracer stops each of the other threads: the main loop cannot pass anything on."""
    vm = guest()
    l1 = vm.l1
    before, inside = status(l1, NAME), counters(vm)
    dmesg(l1)
    text = l1.guest.check(f"/clients/freeze {vm.process.pid} sh -c '{call_script(CALLS)}'", timeout=120)
    after = status(l1, NAME)
    comment(text)
    assert "2 vCPUs go on" in text and not text.startswith("0 "), text
    assert after["completed"] == before["completed"] + CALLS
    assert after["kicks"] == before["kicks"] + CALLS
    assert vm.qmp.cmd("query-status")["running"]
    rekicks = after["rekicks"] - before["rekicks"]
    assert CALLS <= counters(vm)["interrupts"] - inside["interrupts"] <= CALLS + rekicks, rekicks


@case("while it is frozen its monitor does not answer: the freeze is one")
def freezes():
    """Else the case before shows nothing."""
    vm = guest()
    started = vm.l1.guest.start(f"/clients/freeze {vm.process.pid} sleep 3")
    ident = None
    try:
        vm.l1.guest._read_until(b"vCPUs go on", started[2])  # pylint: disable=protected-access
        ident = vm.qmp.send("query-status")
        try:
            vm.qmp.recv(ident, timeout=1)
            answered = True
        except Timeout:
            answered = False
    finally:
        vm.l1.guest.sync()
    assert not answered
    assert vm.qmp.recv(ident, timeout=20)["running"]


if __name__ == "__main__":
    main()
