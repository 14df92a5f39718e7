#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Our QEMU and the guest's driver on Debian's own KVM: the doorbell gate serves."""
import re

from levels import L2, shared_l1, shared_l2

from harness import case, main, stats


def guest():
    """The L2 of most cases."""
    return shared_l2(shared_l1(kvm="stock"))


def mem_total(vm):
    """MemTotal as the guest's own /proc/meminfo has it, in bytes."""
    return int(re.search(r"MemTotal: +(\d+) kB", vm.guest.check("cat /proc/meminfo"))[1]) * 1024


@case("KVM is Debian's own, and a guest of it boots", timeout=180)
def boots():
    """Nothing of ours may be needed in the host's kernel."""
    vm = guest()
    assert vm.l1.guest.check("cat /sys/module/kvm/taint").strip() == ""
    assert vm.qmp.cmd("query-kvm") == {"enabled": True, "present": True}
    assert "KVM" in vm.guest.check("dmesg | grep 'Hypervisor detected'")


@case("the gate is the doorbell, the proxy is in QEMU")
def gate():
    """KVM knows no hypercall of ours, and none is tried but the probe."""
    info = guest().query()
    assert (info["state"], info["gate"], info["proxy"]) == ("connected", "doorbell", "vmm"), info
    assert info["wait"] == "interrupt", info


@case("guest-meminfo through QMP is what the guest says")
def meminfo():
    """The total to the byte; a request is an interrupt at most, and no gate call."""
    vm = guest()
    before = stats(vm)
    answer = vm.qmp.cmd("guest-meminfo")
    after = stats(vm)
    assert answer["total"] == mem_total(vm)
    assert abs(answer["free"] - vm.qmp.cmd("guest-meminfo")["free"]) < answer["total"] // 50
    assert after["completed"] == before["completed"] + 1
    gained = {key: after[key] - before[key] for key in ("interrupts", "rekicks", "doorbells")}
    assert gained["interrupts"] - gained["rekicks"] <= 1 and gained["doorbells"] == 0, gained
    assert after["hypercalls"] == 0


@case("a hundred calls, each answered", timeout=120)
def many():
    """Each by an interrupt and the doorbell."""
    vm = guest()
    before = stats(vm)
    for _ in range(100):
        vm.qmp.cmd("guest-loadavg")
    after = stats(vm)
    assert after["completed"] == before["completed"] + 100
    assert after["failed"] == before["failed"] and after["timed-out"] == before["timed-out"]


@case("two guests, each answers for itself", timeout=180)
def two():
    """The totals tell them apart."""
    first = guest()
    with L2(first.l1, slot=1, memory="192M", smp=2) as second:
        totals = [vm.qmp.cmd("guest-meminfo")["total"] for vm in (first, second)]
        assert totals == [mem_total(first), mem_total(second)]
        assert totals[0] > totals[1]
        assert second.qmp.cmd("guest-cpuinfo")["online"] == 2


@case("system_reset: the driver registers anew", timeout=180)
def resets():
    """A new epoch; calls work as before."""
    vm = guest()
    epoch = vm.query()["epoch"]
    vm.qmp.cmd("system_reset")
    vm.qmp.wait_event("RVMRPC_CONNECTED", 120)
    vm.wait_ready()
    assert vm.wait_state("connected")["epoch"] != epoch
    assert vm.qmp.cmd("guest-meminfo")["total"] == mem_total(vm)


@case("without the device the guest finds nothing", timeout=180)
def bare():
    """A machine as stock."""
    l1 = shared_l1(kvm="stock")
    with L2(l1, slot=1, device=False) as vm:
        assert "rvmrpc" not in vm.guest.check("lsmod")


if __name__ == "__main__":
    main()
