#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel code and root of a host (L1) call into the kernels of its guests (L2),
and those into the host's: the paper's figures and files, on our KVM.
"""
import os
import re
import time

from ours import (FAR, L2, TICKLESS, dmesg, host, insmod_l1, lkm, mem_total, named, parse_meminfo,
                  settled, shared_l2, status, vms, wait_status)

from harness import call_args, case, comment, driver_file, insmod, main, ms, set_parameter, wait_for

FIRST = named("first", 1, append="rvmrpc.allow=default,0x100.*")
PROC = f"/proc/rvmrpc/{FAR}1"
# Of a grace period beside a server that sleeps for longer.
SRCU_US = 150000
# Of what this machine's other work is part of: the best of them.
TRIES = 3


def guest():
    """The L2 of most cases."""
    return settled(shared_l2(host(), **FIRST))


def with_files():
    """It, with the folder of its files in L1."""
    vm = guest()
    if vm.l1.guest.run("test -d /proc/rvmrpc")[0]:
        vm.l1.guest.check("insmod /clients/rvmrpc_proc.ko")
    return vm


@case("the proxy is in L1's kernel, the gate is the hypercall", timeout=180)
def proxy():
    """Both sides say so."""
    vm = guest()
    info = vm.query()
    assert (info["state"], info["gate"], info["proxy"]) == ("connected", "hypercall", "kernel"), info
    assert driver_file(vm, "gate") == "hypercall"
    assert list(vms(vm.l1)) == ["first"] and status(vm.l1, "first")["epoch"] == info["epoch"]


@case("guest-meminfo through QMP is what the guest says")
def meminfo():
    """The call goes through KVM, and is counted there."""
    vm = guest()
    before = status(vm.l1, "first")
    answer = vm.qmp.cmd("guest-meminfo")
    after = status(vm.l1, "first")
    assert answer["total"] == mem_total(vm)
    assert abs(answer["free"] - vm.qmp.cmd("guest-meminfo")["free"]) < answer["total"] // 50
    assert after["completed"] == before["completed"] + 1


@case("what a guest tells by itself comes by QMP, though the window is the kernel's")
def events():
    """Read from the VMM's file."""
    vm = guest()
    insmod(vm, "rvmrpc_test_mod")
    vm.guest.check("echo slow > /sys/module/rvmrpc_test_mod/parameters/event; rmmod rvmrpc_test_mod")
    data = vm.qmp.wait_event("GUEST_KERNEL_EVENT")["data"]
    assert (data["type"], data["text"], data["data"], data["missed"]) == ("other", "slow", "AQID", 0), data
    info = vm.query()
    assert info["proxy"] == "kernel" and info["stats"]["events"] == data["number"] == 1, (info, data)
    assert status(vm.l1, "first")["events"] == 1


@case("/proc/rvmrpc: meminfo, to the byte and within 2 %")
def proc_meminfo():
    """The guest's own lines, in its order."""
    vm = with_files()
    own = parse_meminfo(vm.guest.check("cat /proc/meminfo"))
    seen = parse_meminfo(vm.l1.guest.check(f"cat {PROC}/meminfo"))
    assert list(seen) == list(own)
    assert seen["MemTotal"] == own["MemTotal"]
    for key, value in own.items():
        assert abs(seen[key] - value) <= own["MemTotal"] // 50, (key, seen[key], value)


@case("/proc/rvmrpc: cpuinfo, loadavg and info")
def proc_others():
    """What does not change is the same; each open is one call."""
    vm = with_files()
    l1 = vm.l1.guest

    def steady(text):
        return [line for line in text.splitlines() if "MHz" not in line]
    assert steady(l1.check(f"cat {PROC}/cpuinfo")) == steady(vm.guest.check("cat /proc/cpuinfo"))
    load = l1.check(f"cat {PROC}/loadavg")
    assert re.fullmatch(r"(\d+\.\d\d ){3}\d+/\d+ \d+\n", load), load
    info = dict(re.findall(r"^([\w ]+): +(.*)$", l1.check(f"cat {PROC}/info"), re.MULTILINE))
    assert (info["uuid"], info["name"], info["connected"]) == (f"{FAR}1", "first", "yes"), info
    assert int(info["pid"]) == vm.process.pid
    assert info["release"] == vm.guest.check("uname -r").strip()
    before = status(vm.l1, "first")["calls"]
    l1.check(f"cat {PROC}/meminfo {PROC}/loadavg")
    assert status(vm.l1, "first")["calls"] == before + 2


@case("/proc/rvmrpc and /dev/rvmrpc are root's, with CAP_SYS_ADMIN")
def permissions():
    """Looked at when opened: root of another user namespace owns the files, and may not."""
    l1 = with_files().l1.guest
    modes = l1.check(f"cd {PROC} && stat -c '%n %a %u' * /dev/rvmrpc").splitlines()
    assert modes == ["cpuinfo 400 0", "drop_caches 200 0", "info 400 0", "loadavg 400 0",
                     "meminfo 400 0", "/dev/rvmrpc 600 0"], modes
    assert l1.check(f"stat -c %a /proc/rvmrpc {PROC}").split() == ["500", "500"]
    for command in (f"cat {PROC}/meminfo", f"echo 1 >{PROC}/drop_caches", "cat </dev/rvmrpc"):
        code, text = l1.run(f"unshare -r sh -c '{command}'")
        assert code and "Operation not permitted" in text, (command, text)


@case("drop_caches by write: the guest's page cache is gone", timeout=300)
def drop_caches():
    """24 MiB by 9p, so that it holds a file; other numbers are refused."""
    size = 24 << 20
    l1 = host()
    folder = l1.share / "files"
    folder.mkdir(exist_ok=True)
    (folder / "large").write_bytes(os.urandom(1 << 20) * 24)
    with L2(l1, slot=1, **named("cache", 7, share="/share/files", memory="192M")) as vm:
        with_files()
        vm.guest.check("mount -t 9p -o trans=virtio,cache=loose,msize=131072 share /mnt && "
                       "cat /mnt/large >/dev/null", timeout=60)
        before = parse_meminfo(vm.guest.check("cat /proc/meminfo"))["Cached"]
        proc = f"/proc/rvmrpc/{FAR}7"
        l1.guest.check(f"echo 1 >{proc}/drop_caches")
        after = parse_meminfo(vm.guest.check("cat /proc/meminfo"))["Cached"]
        assert before - after > size * 0.9, (before, after)
        for bad in ("0", "4", "-1", "x"):
            assert "Invalid argument" in l1.guest.run(f"echo {bad} >{proc}/drop_caches")[1], bad
    wait_for(lambda: l1.guest.run(f"test -d {proc}")[0] == 1, 30, "the end of the folder")


@case("figure 4: an LKM of the host has the guest echo a message")
def figure_4():
    """rvmrpc_call(), and by uuid; the echo is the guest's."""
    vm = guest()
    log = lkm(vm.l1, "rvmrpc_echo_client", "message=Servus")
    assert "rvmrpc_echo_client: echo back: Servus" in log, log
    assert "echo back: Hello from Host" in lkm(vm.l1, "rvmrpc_echo_client", f"uuid={FAR}1")
    dmesg(vm.l1)
    assert insmod_l1(vm.l1, "rvmrpc_echo_client", f"uuid={FAR}5")[0] != 0
    assert "the guest does not answer: -ENODEV" in dmesg(vm.l1)


@case("figure 5: the guest's own server module prints and echoes", timeout=180)
def figure_5():
    """An out-of-tree module of the guest, by its number; gone after rmmod."""
    vm = guest()
    insmod(vm, "rvmrpc_echo_example")
    vm.guest.check("dmesg -c")
    assert "echo back: from the host" in lkm(
        vm.l1, "rvmrpc_echo_client", "mod=0x100 'message=\"from the host\"'")
    assert "rvmrpc_echo_example: from the host" in dmesg(vm)
    vm.guest.check("rmmod rvmrpc_echo_example")
    dmesg(vm.l1)
    assert insmod_l1(vm.l1, "rvmrpc_echo_client", "mod=0x100")[0] != 0
    assert "the guest does not answer: -ENOENT" in dmesg(vm.l1)


@case("figures 1 and 2: the guest's kernel prints into the host's log", timeout=180)
def figures_1_and_2():
    """Escaped; without the server the guest is told so."""
    vm = guest()
    vm.guest.check("dmesg -c")
    assert vm.guest.run("insmod /lib/rvmrpc/vmrpc_print_example.ko")[0] != 0
    assert "the host does not print: -ENOENT" in dmesg(vm)
    vm.l1.guest.check("insmod /clients/vmrpc_print_server.ko; dmesg -c")
    insmod(vm, "vmrpc_print_example", "message=$(printf 'from\\033L2')")
    vm.guest.check("rmmod vmrpc_print_example")
    log = dmesg(vm.l1)
    assert r"vmrpc_print_server: print: from\eL2" in log, log
    vm.l1.guest.check("rmmod vmrpc_print_server")


@case("8 threads x 1000 calls: every answer is its own caller's", timeout=300)
def threads():
    """Through rvmrpc_call_vm(); each compares what it sent with what it got."""
    vm = guest()
    before = status(vm.l1, "first")
    log = lkm(vm.l1, "rvmrpc_test_client", "threads=8 calls=1000", timeout=240)
    after = status(vm.l1, "first")
    assert "right 8000 wrong 0 failed 0" in log, log
    assert after["completed"] == before["completed"] + 8000
    assert after["late_replies"] == before["late_replies"]
    assert after["bad_replies"] == before["bad_replies"]


@case("two VMs: rvmrpc_call() is not unique, each answers for itself", timeout=180)
def two():
    """By uuid and by name; the files, too."""
    vm = with_files()
    l1 = vm.l1
    with L2(l1, slot=1, **named("second", 2, memory="192M")) as second:
        settled(second)
        dmesg(l1)
        assert insmod_l1(l1, "rvmrpc_echo_client")[0] != 0
        assert "the guest does not answer: -ENOTUNIQ" in dmesg(l1)
        totals = [mem_total(vm), mem_total(second)]
        assert totals[0] > totals[1]
        for number, total in enumerate(totals, 1):
            text = l1.guest.check(f"cat /proc/rvmrpc/{FAR}{number}/meminfo")
            assert parse_meminfo(text)["MemTotal"] == total
        for chosen in ({"uuid": f"{FAR}2"}, {"name": "second"}, {"uuid": f"{FAR}1"}, {"name": "first"}):
            (how, value), = chosen.items()
            before = {name: s["completed"] for name, s in vms(l1).items()}
            lkm(l1, "rvmrpc_test_client", f"{how}={value} threads=2 calls=20")
            after = {name: s["completed"] for name, s in vms(l1).items()}
            mine = "second" if value in ("second", f"{FAR}2") else "first"
            assert {name: after[name] - before[name] for name in after} == \
                {name: 40 if name == mine else 0 for name in after}
    assert "echo back" in lkm(l1, "rvmrpc_echo_client")


def sleep_once(vm):
    """Microseconds of a call of the server that sleeps and of a grace period meanwhile; the loop's turns in 500 ms
    alone, and beside it.
    """
    text = vm.guest.check(
        "p() { until n=$(cat /tmp/progress) && [ -n \"$n\" ]; do :; done; echo $n; }; "
        "dmesg -c >/dev/null; p; usleep 500000; p; "
        "taskset 1 insmod /lib/rvmrpc/vmrpc_sleep_client.ko func=0; p; rmmod vmrpc_sleep_client; dmesg | grep srcu", 60)
    before, between, after = (int(n) for n in text.split()[:3])
    took, srcu_us = (int(n) for n in re.search(r"took (\d+) us, srcu (\d+) us", text).groups())
    return took, srcu_us, between - before, after - between


@case("a server that sleeps 500 ms and a vCPU in VMLP hold up neither memslots nor vCPUs",
      timeout=300)
def sleeps():
    """vCPU 0 sleeps in the host, vCPU 1 waits in VMLP without a tick, vCPU 2 counts."""
    l1 = host()
    l1.guest.check("insmod /clients/vmrpc_sleep_server.ko")
    with L2(l1, slot=1, **named("sleeper", 3, smp=3, memory="192M", append=TICKLESS)) as vm:
        vm.guest.check("taskset 4 sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/progress; done' "
                       ">/dev/null 2>&1 &")
        wait_for(lambda: vm.guest.run("test -s /tmp/progress")[0] == 0, 30, "the loop")
        for _ in range(TRIES):
            took, srcu_us, alone, beside = sleep_once(vm)
            comment(f"the call took {took} us, a grace period of srcu {srcu_us} us; the loop made {alone} "
                    f"turns in 500 ms alone, {beside} beside the call")
            assert took >= 500000
            if srcu_us < SRCU_US and beside > alone / 4:
                break
        assert srcu_us < SRCU_US, srcu_us
        assert beside > alone / 4, (alone, beside)
    l1.guest.check("rmmod vmrpc_sleep_server")


def grace_periods(vm):
    """Microseconds of ten."""
    vm.guest.check("dmesg -c >/dev/null; for i in 1 2 3 4 5 6 7 8 9 10; do taskset 1 "
                   "insmod /lib/rvmrpc/vmrpc_sleep_client.ko func=1; "
                   "rmmod vmrpc_sleep_client; usleep 100000; done", timeout=60)
    return sorted(int(us) for us in re.findall(r"srcu (\d+) us", dmesg(vm)))


@case("a vCPU in VMLP without a tick: kvm->srcu does not wait for it", timeout=300)
def srcu():
    """Its waits are long (few end by interrupts), the grace periods are short."""
    l1 = host()
    l1.guest.check("insmod /clients/vmrpc_sleep_server.ko")
    with L2(l1, slot=1, **named("tickless", 4, smp=2, memory="192M", append=TICKLESS)) as vm:
        wait_for(lambda: status(l1, "tickless")["waits"] > 0, 20, "a wait")
        vm.guest.check("sleep 1")
        for _ in range(TRIES):
            before = status(l1, "tickless")["waits"]
            times = grace_periods(vm)
            after = wait_status(l1, "tickless", lambda s: s["vmlp"] == 1, 20, "a wait afterwards")["waits"]
            comment(f"grace periods of {times} us; {after - before} waits meanwhile")
            assert len(times) == 10
            # A wait that held it lasts up to a second.
            if times[4] < 100000 and times[-1] < 400000:
                break
        assert times[4] < 100000, times
        assert times[-1] < 400000, times
    l1.guest.check("rmmod vmrpc_sleep_server")


@case("a call by QMP holds up no other monitor, and QEMU ends during it", timeout=180)
def qmp_call():
    """The kernel ends it, or QEMU takes it back."""
    l1 = host()
    with L2(l1, slot=1, **named("caller", 5, memory="192M", append="rvmrpc.allow=default,test.*")) as vm:
        insmod(vm, "rvmrpc_test_mod")
        settled(vm)
        ident = vm.qmp.send("guest-kernel-call", call_args("test", "sleep", ms(60000), 60000))
        wait_status(l1, "caller", lambda s: s["in_flight"] == 1, 20, "the call in the kernel")
        start = time.monotonic()
        for _ in range(10):
            vm.qmp2.cmd("query-status", timeout=20)
        assert vm.qmp2.cmd("guest-meminfo", timeout=20)["total"] > 0
        vm.qmp2.cmd("quit", timeout=20)
        reply = vm.qmp.recv(ident, timeout=20)
        assert reply["status"] in ("reset", "stopped", "cancelled"), reply
        assert vm.process.wait(20) == 0
        took = time.monotonic() - start
    comment(f"{took:.1f} s")
    assert took < 20, took


@case("a call that waits in VMLP, or sleeps, is served in each mode", timeout=180)
def modes():
    """vmlp_idle_us by the driver's parameter, while it runs."""
    vm = guest()
    for idle_us in (0, -1, 50):
        set_parameter(vm, "vmlp_idle_us", idle_us)
        for _ in range(10):
            assert "MemTotal" in with_files().l1.guest.check(f"cat {PROC}/meminfo")


if __name__ == "__main__":
    main()
