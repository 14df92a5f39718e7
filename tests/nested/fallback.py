#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""On our KVM, a guest that speaks Hyper-V's hypercalls: its host answers ours
with an error of Hyper-V's, so the driver takes the doorbell, and QEMU's proxy.
"""
from ours import Hammer, host, lkm, mem_total, named, shared_l2, vms

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


@case("the driver takes the doorbell, the proxy is in QEMU")
def doorbell():
    """Both sides agree; nothing in the guest's log but a notice."""
    vm = enlightened()
    info = vm.query()
    assert (info["state"], info["gate"], info["proxy"]) == ("connected", "doorbell", "vmm"), info
    assert driver_file(vm, "gate") == "doorbell"
    assert driver_file(vm, "wait") == "interrupt"


@case("guest-meminfo and a hundred echoes are answered", timeout=120)
def calls():
    """Through QEMU."""
    vm = enlightened()
    assert vm.qmp.cmd("guest-meminfo")["total"] == mem_total(vm)
    before = stats(vm)
    for i in range(100):
        assert call(vm.qmp, "echo", "echo", bytes([i])) == ("ok", bytes([i]))
    after = stats(vm)
    assert after["completed"] == before["completed"] + 100
    assert after["doorbells"] >= before["doorbells"] + 100


@case("clients of the host's kernel are told that no driver is there, and another VM serves them",
      timeout=180)
def others():
    """The proxy is QEMU's; rvmrpc_call() takes the one VM that has a driver in the kernel's."""
    vm = enlightened()
    l1 = vm.l1
    assert vms(l1)["windowlike"]["connected"] == 0
    normal = shared_l2(l1, slot=1, **named("normal", 2, memory="192M"))
    assert "echo back" in lkm(l1, "rvmrpc_echo_client")
    with Hammer(l1, "normal", 2):
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
    assert (info["gate"], info["proxy"]) == ("doorbell", "vmm") and info["epoch"] != epoch, info


if __name__ == "__main__":
    main()
