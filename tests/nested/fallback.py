#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Where something of ours cannot be used: a guest that speaks Hyper-V's hypercalls, whose host answers ours with
an error of Hyper-V's; a host without rvmrpc_kvm.ko, or without any owner of windows in its kernel.
"""
from ours import Hammer, L2, host, lkm, mem_total, named, shared_l2, vms

from harness import call, case, driver_file, main, stats

# KVM's own signature is hidden: Linux would prefer it.
HYPERV = "host,kvm=off,hv-relaxed,hv-vapic,hv-time,hv-vpindex,hv-spinlocks=0x1fff"


def enlightened():
    """An L2 that takes its host for Hyper-V."""
    return shared_l2(host(), **named("windowlike", 1, cpu=HYPERV))


@case("the guest takes its host for Hyper-V", timeout=180)
def is_hyperv():
    """And sets the guest OS id: KVM then leaves all hypercalls to its Hyper-V code."""
    assert "Microsoft Hyper-V" in enlightened().guest.check("dmesg | grep 'Hypervisor detected'")


@case("the driver takes the doorbell, and cannot wait in the host; the kernel has the window all the same")
def doorbell():
    """The channel needs no gate."""
    vm = enlightened()
    info = vm.query()
    assert (info["state"], info["proxy"], info["wait"]) == ("connected", "kernel", "interrupt"), info
    assert driver_file(vm, "gate") == "doorbell"
    assert driver_file(vm, "wait") == "spin-then-interrupt"


@case("guest-meminfo and a hundred echoes are answered", timeout=120)
def calls():
    """By rings and interrupts, and without a gate call."""
    vm = enlightened()
    before = stats(vm)
    assert vm.qmp.cmd("guest-meminfo")["total"] == mem_total(vm)
    for i in range(100):
        assert call(vm.qmp, "echo", "echo", bytes([i])) == ("ok", bytes([i]))
    after = stats(vm)
    assert after["completed"] == before["completed"] + 101
    assert after["interrupts"] > before["interrupts"] and after["rings"] > before["rings"], (before, after)
    for name in ("hypercalls", "doorbells", "waits"):
        assert after[name] == before[name], name


@case("clients of the host's kernel are served, as is another VM", timeout=180)
def others():
    """rvmrpc_call() takes the one VM there is."""
    vm = enlightened()
    l1 = vm.l1
    assert vms(l1)["windowlike"]["connected"] == 1
    assert "echo back" in lkm(l1, "rvmrpc_echo_client")
    normal = shared_l2(l1, slot=1, **named("normal", 2, memory="192M"))
    with Hammer(l1, "windowlike", 2), Hammer(l1, "normal", 2):
        for _ in range(20):
            assert vm.qmp.cmd("guest-loadavg")["load1m"] >= 0
    assert normal.query()["proxy"] == "kernel"


@case("system_reset: the same again", timeout=180)
def resets():
    """The gate is chosen anew."""
    vm = enlightened()
    epoch = vm.query()["epoch"]
    vm.qmp.cmd("system_reset")
    vm.qmp.wait_event("RVMRPC_CONNECTED", 120)
    vm.wait_ready()
    info = vm.wait_state()
    assert info["proxy"] == "kernel" and info["epoch"] != epoch, info
    assert driver_file(vm, "gate") == "doorbell"


def serves(vm, proxy):
    """Without a wait in the host; whoever has the window."""
    info = vm.query()
    assert (info["state"], info["proxy"], info["wait"]) == ("connected", proxy, "interrupt"), info
    assert info["gate"] == driver_file(vm, "gate") == "hypercall", info
    assert driver_file(vm, "wait") == "spin-then-interrupt"
    assert vm.qmp.cmd("guest-meminfo")["total"] == mem_total(vm)
    for i in range(20):
        assert call(vm.qmp, "echo", "echo", bytes([i])) == ("ok", bytes([i]))


def alone():
    """L1 without guests: its modules can be removed."""
    l1 = host()
    for vm in l1.guests:
        if vm is not None:
            vm.stop()
    return l1


@case("kernel=off: the window is QEMU's, the gate KVM's", timeout=180)
def off():
    """The kernel knows of no such VM."""
    l1 = alone()
    with L2(l1, **named("own", 3, memory="192M", device_opts="kernel=off")) as vm:
        serves(vm, "vmm")
        assert not vms(l1)


@case("without rvmrpc_kvm.ko the kernel has the window, and no vCPU waits in it", timeout=180)
def no_glue():
    """KVM has a gate, and no server for the wait."""
    l1 = alone()
    l1.guest.check("rmmod rvmrpc_kvm")
    with L2(l1, **named("unglued", 4, memory="192M")) as vm:
        serves(vm, "kernel")
        with Hammer(l1, "unglued", 2):
            pass
        l1.guest.check("insmod /clients/rvmrpc_kvm.ko")
        serves(vm, "kernel")


@case("without rvmrpc_host.ko the window is QEMU's", timeout=180)
def no_owner():
    """And the gate is KVM's."""
    l1 = alone()
    l1.guest.check("rmmod rvmrpc_kvm rvmrpc_host")
    with L2(l1, **named("left", 5, memory="192M")) as vm:
        serves(vm, "vmm")


if __name__ == "__main__":
    main()
