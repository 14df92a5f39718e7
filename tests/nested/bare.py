#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Our KVM without a device, and its files without QEMU."""
import re

from levels import L2, shared_l1

from harness import case, comment, insmod, main

ANSWERS = {}


def host():
    """The L1 of all cases, with our KVM."""
    return shared_l1(kvm="ours")


@case("RVMRPC_MAIN, from a VMM of two instructions whose vCPU cannot wait", timeout=240, words="")
@case("RVMRPC_MAIN, from one whose vCPU waits in KVM", timeout=240, words="waits")
def gate_main(words):
    """Each check of the program tests/nested/programs/gate_main."""
    code, text = host().guest.run(f"/clients/gate_main {words}", timeout=200)
    plan = int(re.search(r"^1\.\.(\d+)$", text, re.MULTILINE)[1])
    passed = re.findall(r"^ok \d+ - ", text, re.MULTILINE)
    failed = re.findall(r"^not ok .*$", text, re.MULTILINE)
    comment(f"{len(passed)} checks; waits: " + ", ".join(re.findall(r"^# (\d+ ms)$", text, re.MULTILINE)))
    assert code == 0 and not failed and len(passed) == plan >= 10, (code, failed, text[-500:])


def answers(l1):
    """What hypercalls answer in a guest without the device."""
    with L2(l1, device=False, memory="128M") as vm:
        vm.guest.check("dmesg -c >/dev/null")
        insmod(vm, "hypercall_probe")
        found = dict(re.findall(r"hypercall_probe: (0x[0-9a-f]+): (-?\d+)", vm.guest.check("dmesg")))
        assert len(found) == 14, found
        assert not vm.guest.run("test -d /sys/module/rvmrpc")[0] == 0
        return found


@case("without a device, null and unknown hypercalls answer as on stock KVM", timeout=300)
def as_stock():
    """The same host, the same guest; only the modules are changed in between."""
    l1 = host()
    ours = answers(l1)
    l1.unload_kvm()
    l1.load_kvm("stock")
    assert l1.guest.check("cat /sys/module/kvm/taint").strip() == ""
    stock = answers(l1)
    comment(str(stock))
    l1.unload_kvm()
    l1.load_kvm("ours")
    assert ours == stock, {key: (ours[key], stock[key]) for key in stock if ours[key] != stock[key]}
    assert stock["0x1"] == "0" and stock["0x52564d52"] == "-1000", stock


@case("our modules come and go", timeout=120)
def reloads():
    """/dev/rvmrpc with rvmrpc_host.ko, which a client's module holds; the glue holds both."""
    l1 = host()
    l1.unload_kvm()
    assert l1.guest.run("test -e /dev/rvmrpc")[0] == 1
    l1.load_kvm("ours")
    assert l1.guest.check("/clients/vms") == "[]\n"
    l1.guest.check("insmod /clients/rvmrpc_proc.ko")
    assert l1.guest.run("rmmod rvmrpc_host")[0] != 0
    assert l1.guest.check("ls /proc/rvmrpc") == ""
    l1.guest.check("rmmod rvmrpc_proc")
    assert l1.guest.run("rmmod kvm_amd kvm")[0] != 0
    l1.guest.check("insmod /kvm/kvm-amd.ko")


if __name__ == "__main__":
    main()
