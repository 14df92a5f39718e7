#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A driver that sleeps is woken by KVM through the irqfd, without QEMU's help."""
from ours import FAR, dmesg, driver_counters, host, named, settled, shared_l2, status

from harness import Timeout, case, comment, driver_file, main

NAME = "asleep"
CALLS = 40
# Between calls, for the driver to fall asleep again: the next where a busy host did not let it in time.
PAUSES_MS = (50, 200, 800)


def guest():
    """A driver that never waits in the host; QEMU's threads have names."""
    vm = settled(shared_l2(host(), **named(f"{NAME},debug-threads=on", 1, smp=2, memory="192M",
                                           append="rvmrpc.vmlp_idle_us=0 rvmrpc.spin_us=0")))
    assert driver_file(vm, "wait") == "interrupt"
    return vm


def call_script(pause_ms):
    """Single calls, with a pause in which the driver falls asleep again."""
    return (f"i=0; while [ $i -lt {CALLS} ]; do usleep {1000 * pause_ms}; insmod /clients/rvmrpc_test_client.ko "
            f"uuid={FAR}1 threads=1 calls=0 nulls=1 && rmmod rvmrpc_test_client || exit 1; "
            "i=$((i + 1)); done")


def grown(before, after, keys):
    """The growth of some counters."""
    return {key: after[key] - before[key] for key in keys}


def all_asleep(vm, calls):
    """Has calls(script) make CALLS until each has met a driver that slept: how KVM's counters grew, and the driver's.
    No call is ever two kicks.
    """
    for pause_ms in PAUSES_MS:
        before, inside = status(vm.l1, NAME), driver_counters(vm)
        calls(call_script(pause_ms))
        after, inside_after = status(vm.l1, NAME), driver_counters(vm, inside["calls"] + CALLS)
        kvm = grown(before, after, ("calls", "completed", "kicks", "rekicks", "waits", "user_exits"))
        driver = grown(inside, inside_after, ("calls", "interrupts"))
        comment(f"{pause_ms} ms between calls: KVM: {kvm}; driver: {driver}")
        assert kvm["kicks"] <= CALLS, kvm
        if kvm["kicks"] == CALLS:
            break
    return kvm, driver


def check_interrupts(kvm, driver):
    """As the host counts kicks, so the driver counts interrupts; it may take the host's second for a slow start."""
    assert kvm["completed"] == kvm["kicks"] == CALLS, kvm
    assert CALLS <= driver["interrupts"] <= CALLS + kvm["rekicks"], (kvm, driver)


@case("each call is one interrupt, and KVM's", timeout=400)
def interrupts():
    """And nothing else."""
    vm = guest()
    kvm, driver = all_asleep(vm, lambda script: vm.l1.guest.check(script, timeout=120))
    check_interrupts(kvm, driver)
    assert kvm["calls"] == driver["calls"] == CALLS and kvm["waits"] == kvm["user_exits"] == 0, (kvm, driver)


@case("with all of QEMU but its vCPU threads frozen, calls are answered", timeout=400)
def frozen():
    """A tracer stops each of the other threads: the main loop cannot pass anything on."""
    vm = guest()
    l1 = vm.l1
    dmesg(l1)

    def calls(script):
        text = l1.guest.check(f"/clients/freeze {vm.process.pid} sh -c '{script}'", timeout=120)
        comment(text)
        assert "2 vCPUs go on" in text and not text.startswith("0 "), text
    check_interrupts(*all_asleep(vm, calls))
    assert vm.qmp.cmd("query-status")["running"]


@case("while it is frozen its monitor does not answer: the freeze is one")
def freezes():
    """Else the case before shows nothing. It lasts until this side has not been answered, however long that takes."""
    vm = guest()
    thaw = vm.l1.share / "thaw"
    started = vm.l1.guest.start(f"/clients/freeze {vm.process.pid} sh -c 'until test -e /share/thaw; do "
                                "usleep 100000; done'")
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
        thaw.touch()
        vm.l1.guest.sync()
        thaw.unlink()
    assert not answered
    assert vm.qmp.recv(ident, timeout=20)["running"]


if __name__ == "__main__":
    main()
