#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Our KVM, QEMU and driver on Intel VT-x, as Bochs emulates it."""
import re
import time

from bochs import L1, L2

from harness import QMPError, case, comment, counters, main, set_parameter, shared, stats, wait_for

CALLS = 20
HOST_COUNTERS = ("completed", "kicks", "rings", "hypercalls", "waits", "interrupted", "user_exits",
                 "refused_calls")


def host():
    """The L1 that the cases share, with KVM."""
    l1 = shared(L1)
    if "kvm_intel" not in l1.guest.check("lsmod"):
        start = time.monotonic()
        l1.load_kvm()
        comment(f"KVM loaded in {time.monotonic() - start:.1f} s")
    return l1


def guest():
    """The L2 that the cases share."""
    return shared(L2, l1=host())


def mem_total(vm):
    """MemTotal as the guest's own /proc/meminfo has it, in bytes."""
    return int(re.search(r"MemTotal: +(\d+) kB", vm.guest.check("cat /proc/meminfo"))[1]) * 1024


def quiet(vm):
    """Lets the driver sleep until the interrupt: then no counter moves."""
    set_parameter(vm, "spin_us", 0)
    set_parameter(vm, "vmlp_idle_us", 0)


def long_poll(vm):
    """The paper's mode: the server thread waits in the host."""
    set_parameter(vm, "vmlp_idle_us", -1)


@case("our kvm-intel.ko loads on VT-x, with EPT and the preemption timer", timeout=300)
def loads():
    """What Bochs offers and KVM uses."""
    l1 = host()
    assert "vmx" in l1.guest.check("grep -m 1 flags /proc/cpuinfo").split()
    assert "O" in l1.guest.check("cat /sys/module/kvm/taint")
    used = dict(line.split(":") for line in l1.guest.check(
        "cd /sys/module/kvm_intel/parameters && "
        "grep . ept unrestricted_guest vpid preemption_timer enable_apicv").split())
    assert used == {"ept": "Y", "unrestricted_guest": "Y", "vpid": "Y",
                    "preemption_timer": "Y", "enable_apicv": "N"}, used


@case("RVMRPC_MAIN, from a VMM of two instructions", timeout=300)
def files():
    """The same program as under emulated SVM; prints TAP."""
    lines = host().guest.check("cd /tmp && /clients/gate_main waits", 200).splitlines()
    bad = [line for line in lines if line.startswith("not ok")]
    assert not bad, "\n".join(bad)
    assert f"1..{sum(line.startswith('ok') for line in lines)}" in lines


@case("a guest boots; the gate is VMCALL, the proxy is in L1's kernel", timeout=300)
def boots():
    """Nothing goes through the device's doorbell."""
    vm = guest()
    assert vm.qmp.cmd("query-kvm") == {"enabled": True, "present": True}
    assert "GenuineIntel" in vm.guest.check("grep -m 1 vendor_id /proc/cpuinfo")
    info = vm.query()
    assert (info["state"], info["gate"], info["proxy"]) == ("connected", "hypercall", "kernel"), \
        info
    assert info["stats"]["doorbells"] == 0


@case("guest-meminfo through QMP is what the guest says", timeout=300)
def meminfo():
    """The total to the byte."""
    vm = guest()
    answer = vm.qmp.cmd("guest-meminfo")
    assert answer["total"] == mem_total(vm)
    assert answer["os"] == "linux", answer["os"]


@case("/proc/rvmrpc/*/meminfo in L1 is what the guest says", timeout=300)
def proc_meminfo():
    """A client in L1's kernel."""
    vm = guest()
    text = vm.l1.guest.check("cat /proc/rvmrpc/*/meminfo")
    assert int(re.search(r"MemTotal: +(\d+) kB", text)[1]) * 1024 == mem_total(vm)


@case("hypercalls = calls that were waited for + waits that an interrupt ended", timeout=300)
def counts():
    """Counted by KVM and by the guest's driver, to the last one, when both rest. A call that finds the server asleep,
    or on its way there, costs none.
    """
    vm = guest()
    quiet(vm)
    before, driver_before = vm.l1.kvm_status(), counters(vm)
    long_poll(vm)
    for _ in range(CALLS):
        vm.qmp.cmd("guest-loadavg")
    quiet(vm)
    driver_after, after = counters(vm), vm.l1.kvm_status()
    host_did = {name: after[name] - before[name] for name in HOST_COUNTERS}
    driver_did = {name: driver_after[name] - driver_before[name] for name in driver_after}
    comment(f"KVM: {host_did}")
    comment(f"driver: {driver_did}")
    assert host_did["completed"] == driver_did["calls"] == CALLS
    assert host_did["waits"] > 0
    assert host_did["hypercalls"] == driver_did["polls"]
    asleep = CALLS + host_did["interrupted"] - host_did["hypercalls"]
    assert host_did["kicks"] <= asleep <= driver_did["sleeps"] + host_did["rings"], asleep
    assert host_did["user_exits"] == host_did["refused_calls"] == 0
    assert host_did["kicks"] == driver_did["interrupts"]


@case("the guest's timer ends waits, and its clock goes on", timeout=300)
def timer():
    """VMX's preemption timer stops with the vCPU: KVM's own takes over for the wait."""
    vm = guest()
    long_poll(vm)
    events = "/sys/kernel/debug/tracing"
    enable = f"{events}/events/kvm/kvm_hv_timer_state/enable"
    vm.l1.guest.check(f"echo 1 >{enable}")
    before, ticks, uptime = vm.l1.kvm_status(), local_interrupts(vm), seconds(vm)
    vm.l1.guest.check("sleep 2", 200)
    after = vm.l1.kvm_status()
    elapsed, ticked = seconds(vm) - uptime, local_interrupts(vm) - ticks
    vm.l1.guest.check(f"echo 0 >{enable}")
    switches = [int(vm.l1.guest.check(f"grep -c 'hv_timer {state}' {events}/trace || true", 60))
                for state in (0, 1)]
    ended = after["interrupted"] - before["interrupted"]
    comment(f"{ended} waits ended by interrupts, {ticked} timer interrupts in {elapsed:.2f} s; "
            f"to the software timer {switches[0]} times, back {switches[1]} times")
    assert elapsed >= 2
    # The driver asks for a second; without the timer an interrupt would end none.
    assert ended >= 100 and ticked >= 100
    assert min(switches) >= 100


def local_interrupts(vm):
    """Timer interrupts of the guest's CPU so far."""
    return int(re.search(r"LOC: +(\d+)", vm.guest.check("cat /proc/interrupts"))[1])


def seconds(vm):
    """The guest's time since its boot."""
    return float(vm.guest.check("cat /proc/uptime").split()[0])


@case("stop and cont while the vCPU waits", timeout=300)
def stops():
    """A stopped guest refuses at once and polls no more; afterwards it answers."""
    vm = guest()
    long_poll(vm)
    for _ in range(3):
        vm.qmp.cmd("stop")
        before = vm.l1.kvm_status()["hypercalls"]
        try:
            vm.qmp.cmd("guest-meminfo")
            raise AssertionError("a stopped guest answered")
        except QMPError as error:
            assert error.desc.startswith("stopped"), error.desc
        assert vm.l1.kvm_status()["hypercalls"] == before
        vm.qmp.cmd("cont")
        assert vm.qmp.cmd("guest-meminfo")["total"] > 0
    assert stats(vm)["in-flight"] == 0


@case("a driver that sleeps in the guest is woken by the interrupt", timeout=300)
def sleeps():
    """The proxy's eventfd goes to the MSI-X vector."""
    vm = guest()
    quiet(vm)
    before = vm.l1.kvm_status()
    for _ in range(5):
        vm.qmp.cmd("guest-loadavg")
    after = vm.l1.kvm_status()
    assert after["completed"] - before["completed"] == 5
    assert after["kicks"] - before["kicks"] == 5
    assert after["waits"] == before["waits"]


@case("the guest powers off, and KVM's modules go", timeout=300)
def powers_off():
    """No reference is left behind."""
    vm = guest()
    pid = vm.l1.guest.check("pidof qemu-system-x86_64").strip()
    vm.guest.start("poweroff -f")
    # Not by its name, which goes before its files do.
    vm.l1.guest.check(f"while test -d /proc/{pid}; do sleep 1; done", 150)
    # A work queue tells of it.
    wait_for(lambda: not vm.l1.guest.check("ls /proc/rvmrpc").strip(), 60, "the end of the folder", interval=0.5)
    vm.l1.guest.check("rmmod rvmrpc_proc rvmrpc_kvm rvmrpc_host kvm_intel kvm")


if __name__ == "__main__":
    main()
