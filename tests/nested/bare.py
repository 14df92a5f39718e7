#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Our KVM without a device, and its files without QEMU."""
import re

from ours import L2, shared_l1, traced

from harness import case, comment, insmod, main

ANSWERS = {}
# Of gate_main's calls.
CALL_NS = 30 * 10**9


def host():
    """The L1 of all cases, with our KVM."""
    return shared_l1(kvm="ours")


def check_trace(trace, counted):
    """Each gate call, wait and call of the program was told once, and how it ended."""
    told = {name: [words for event, words in trace if event == name] for name in (
        "vmrpc_gate", "vmlp_wait_begin", "vmlp_wait_end", "rvmrpc_host_call_begin", "rvmrpc_host_call_end",
        "rvmrpc_host_attach", "rvmrpc_host_detach")}
    comment(str({name: len(words) for name, words in told.items()}) + f", counted {counted}")
    assert sum(map(len, told.values())) == len(trace), trace
    assert len(told["vmrpc_gate"]) == counted["gates"]
    assert [(gate["op"], gate["result"][-2:]) for gate in told["vmrpc_gate"] if gate["server"] == "vmm"] == \
        [("unbind", "4d")]
    assert len(told["vmlp_wait_begin"]) == len(told["vmlp_wait_end"]) == counted["waits"]
    reasons = [end["reason"] for end in told["vmlp_wait_end"]]
    assert len(reasons) - reasons.count("woken") == counted["interrupted"] == reasons.count("timeout"), reasons
    assert all(int(end["ns"]) >= 1000000 for end in told["vmlp_wait_end"]), told
    assert len(told["rvmrpc_host_call_begin"]) == counted["submitted"]
    ends = told["rvmrpc_host_call_end"]
    assert [end["status"] for end in ends] == ["0"] * counted["submitted"], ends
    assert all(0 < int(end["ns"]) < CALL_NS for end in ends), ends
    assert [attach["name"] for attach in told["rvmrpc_host_attach"]] == ["tiny"]
    assert len({words["vm"] for event, words in trace if event.startswith("rvmrpc_host")}) == 1
    assert len(told["rvmrpc_host_detach"]) == 1


@case("RVMRPC_MAIN, from a VMM of two instructions whose vCPU cannot wait", timeout=240, words="")
@case("RVMRPC_MAIN, from one whose vCPU waits in KVM", timeout=240, words="waits")
def gate_main(words):
    """Each check of the program tests/nested/programs/gate_main, which asks for KVM's counters, too; and the trace."""
    l1 = host()
    with traced(l1) as trace:
        code, text = l1.guest.run(f"/clients/gate_main {words}", timeout=200)
    plan = int(re.search(r"^1\.\.(\d+)$", text, re.MULTILINE)[1])
    passed = re.findall(r"^ok \d+ - ", text, re.MULTILINE)
    failed = re.findall(r"^not ok .*$", text, re.MULTILINE)
    comment(f"{len(passed)} checks; waits: " + ", ".join(re.findall(r"^# (\d+ ms)$", text, re.MULTILINE)))
    assert code == 0 and not failed and len(passed) == plan >= 10, (code, failed, text[-500:])
    last, = re.findall(r"^# (gates .*)$", text, re.MULTILINE)
    check_trace(trace, {name: int(value) for name, value in re.findall(r"(\w+) (\d+)", last)})


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
