#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU that waits in VMLP takes part in all that happens to a guest and its
VMM, while a client of the host calls: none hangs, none is lost or doubled.
"""
import contextlib
import errno
import pathlib
import re
import signal
import subprocess
import tempfile
import time

from ours import (ALWAYS, Hammer, L2, LONE, alone, dmesg, driver_counters, host, insmod_l1, name_of, named, settled,
                  shared_l2, status, vms)

from harness import Timeout, case, comment, counters, driver_file, main, stats, wait_connected, wait_for
from harness.paths import QEMU_IMG

# A clock that jumps takes 0.7 s of one vCPU: the kernel says so, line by line, on the serial port.
MOVES = "tsc=nowatchdog"
RESET = ("ok", "reset", "not-connected", "stopped")
FOLDER = tempfile.TemporaryDirectory(prefix="rvmrpc-disk-")


def pair():
    """The L2 of most cases: two vCPUs, the server bound to one of them."""
    return ready(shared_l2(host(), **named("pair", 1, smp=2, memory="192M", append=LONE,
                                           device_opts="id=rvmrpc0")))


def single():
    """An L2 with one vCPU: who waits holds the only one."""
    return ready(shared_l2(host(), slot=1, **named("single", 2, memory="192M", append=ALWAYS)))


def ready(vm):
    """The server always waits, and a soft lockup or a hung task would be told soon."""
    assert driver_file(vm, "wait") == "vmlp"
    vm.guest.check("echo 20 >/proc/sys/kernel/watchdog_thresh; "
                   "echo 30 >/proc/sys/kernel/hung_task_timeout_secs")
    return settled(vm)


@contextlib.contextmanager
def calls(vm, depth=2):
    """Calls all along; each is answered by the guest, once, and run there once."""
    name = name_of(vm)
    before, inside = status(vm.l1, name), driver_counters(vm)["calls"]
    with Hammer(vm.l1, name, depth) as hammer:
        yield hammer
        hammer.wait_calls()
    after = status(vm.l1, name)
    # QEMU's own (of modules) are among those of KVM, but not of the client.
    assert after["completed"] - before["completed"] == after["calls"] - before["calls"] >= hammer.result["submitted"]
    driver_counters(vm, inside + after["calls"] - before["calls"])
    assert after["waits"] > before["waits"], "nothing waited"
    comment(f"{name}: {hammer.counts}, longest {hammer.result['longest_ms']} ms")


@case("timer interrupts end waits, and calls go on, smp 1", timeout=180, vm=single)
@case("timer interrupts end waits, and calls go on, smp 2", timeout=180, vm=pair)
def timers(vm):
    """Sleeps of 1 to 20 ms take about as long as they should, on the waiting vCPU too."""
    vm = vm()
    cpu = vm.options["smp"] - 1
    with calls(vm):
        text = vm.guest.check(f"time taskset {1 << cpu} sh -c 'for i in $(seq 100); do usleep 10000; done' "
                              "2>&1", timeout=60)
    minutes, seconds = re.search(r"real\s+(\d+)m ([\d.]+)s", text).groups()
    took = int(minutes) * 60 + float(seconds)
    comment(f"100 sleeps of 10 ms took {took} s")
    assert 1 <= took < 20, took


@case("IPIs, TLB shootdowns and stop_machine while modules come and go, smp 1", timeout=240, vm=single)
@case("IPIs, TLB shootdowns and stop_machine while modules come and go, smp 2", timeout=240, vm=pair)
def modules(vm):
    """A module patches code on all CPUs and has their TLBs flushed; setting an MTRR stops them."""
    vm = vm()
    count = "grep -E 'CAL|TLB' /proc/interrupts | awk '{sum += $3} END {print sum}'"
    before = int(vm.guest.check(count))
    with calls(vm):
        vm.guest.check("i=0; while [ $i -lt 15 ]; do modprobe dummy && rmmod dummy && "
                       "echo base=0xf0000000 size=0x100000 type=uncachable >/proc/mtrr && "
                       "echo disable=$(grep -n . /proc/mtrr | grep 0x0f0000000 | "
                       "sed 's/.*reg0*\\([0-9]*\\):.*/\\1/') >/proc/mtrr || exit 1; i=$((i + 1)); done",
                       timeout=90)
    if vm.options["smp"] > 1:
        assert int(vm.guest.check(count)) - before >= 30, "no IPIs at the waiting vCPU"


@case("inject-nmi, 10 times: the vCPU that waits takes each", timeout=180)
def nmi():
    """Linux lets the first vCPU take them: here it is the one that waits. What it says of each on the serial port would hold
    it for a second, with interrupts off: it says nothing there.
    """
    vm = single()
    levels = vm.guest.check("cat /proc/sys/kernel/printk && echo 0 4 0 7 >/proc/sys/kernel/printk").strip()

    def count():
        return int(vm.guest.check("grep NMI /proc/interrupts | awk '{print $2}'"))
    with calls(vm, 1):
        for _ in range(10):
            # Two that come at once are one.
            before = count()
            vm.qmp.cmd("inject-nmi")
            wait_for(lambda before=before: count() > before, 20, "an NMI", interval=0.1)
    vm.guest.check(f"echo {levels} >/proc/sys/kernel/printk")


@case("CPU hotplug of the very vCPU that waits, 8 times", timeout=240)
def hotplug():
    """The server goes elsewhere and comes back."""
    vm = pair()
    with calls(vm):
        vm.guest.check("cd /sys/devices/system/cpu/cpu1; for i in 1 2 3 4 5 6 7 8; do "
                       "echo 0 >online && echo 1 >online || exit 1; done", timeout=120)


@case("a device of another kind comes and goes while the vCPU waits", timeout=180)
def other_device():
    """PCI hotplug maps and unmaps memory; VMLP does not hold it up."""
    vm = pair()
    with calls(vm):
        for _ in range(5):
            vm.qmp.cmd("device_add", driver="virtio-rng-pci", id="extra", timeout=20)
            wait_for(lambda: vm.guest.run("grep -q 1af41005 /proc/bus/pci/devices")[0] == 0, 60,
                     "the guest's view of it", interval=0.1)
            vm.qmp.cmd("device_del", id="extra", timeout=20)
            vm.qmp.wait_event("DEVICE_DELETED", 60, lambda d: d.get("device") == "extra")


@case("stop and cont, 10 times: new calls are refused meanwhile, none hangs, smp 1", timeout=180, vm=single)
@case("stop and cont, 10 times: new calls are refused meanwhile, none hangs, smp 2", timeout=180, vm=pair)
def stops(vm):
    """A call that is in the guest already is answered after cont."""
    vm = vm()
    l1, name = vm.l1, name_of(vm)
    with Hammer(l1, name, 2, ("ok", "stopped")) as hammer:
        for _ in range(10):
            vm.qmp.cmd("stop", timeout=20)
            dmesg(l1)
            assert insmod_l1(l1, "rvmrpc_test_client", f"name={name} threads=1 calls=1")[0] != 0
            assert f"failed 1 error {-errno.EHOSTDOWN}" in dmesg(l1)
            vm.qmp.cmd("cont", timeout=20)
            hammer.wait_calls()
    comment(f"{hammer.counts}, longest {hammer.result['longest_ms']} ms")
    assert status(l1, name)["timed_out"] == 0


@case("SIGSTOP and SIGCONT of QEMU, 5 times: calls wait, and are answered", timeout=180)
def sigstop():
    """KVM knows nothing of it; deadlines are long enough."""
    vm = pair()
    with calls(vm) as hammer:
        for _ in range(5):
            vm.process.send_signal(signal.SIGSTOP)
            time.sleep(0.5)
            vm.process.send_signal(signal.SIGCONT)
            hammer.wait_calls()


@case("system_reset: calls in flight get reset, the driver registers again, smp 1", timeout=400, vm=single)
@case("system_reset: calls in flight get reset, the driver registers again, smp 2", timeout=400, vm=pair)
def resets(vm):
    """At once, and not at their deadline of 30 s. None may be in flight when a busy host has not run the client for a
    moment: then again.
    """
    vm = vm()
    for _ in range(3):
        epoch = vm.query()["epoch"]
        with Hammer(vm.l1, name_of(vm), 4, RESET) as hammer:
            vm.qmp.cmd("system_reset")
            wait_connected(vm, epoch, timeout=120)
            vm.wait_ready()
            hammer.wait_calls()
        ready(vm)
        comment(f"{hammer.counts}, longest {hammer.result['longest_ms']} ms")
        ended = hammer.counts.get("reset", 0)
        assert ended <= 4, hammer.counts
        if ended:
            return
    raise AssertionError("no call was ever reset")


@case("device_del and device_add of rvmrpc itself: calls end, and go on", timeout=240)
def replugs():
    """Between the two there is no such VM."""
    vm = pair()
    allowed = ("ok", "reset", "not-connected", "cancelled")
    with Hammer(vm.l1, "pair", 2, allowed) as hammer:
        for _ in range(3):
            vm.qmp.cmd("device_del", id="rvmrpc0", timeout=20)
            vm.qmp.wait_event("DEVICE_DELETED", 60, lambda d: d.get("device") == "rvmrpc0")
            assert "pair" not in vms(vm.l1)
            vm.qmp.cmd("device_add", driver="rvmrpc", id="rvmrpc0", timeout=20)
            vm.wait_state(timeout=60)
            hammer.wait_calls()
    comment(str(hammer.counts))
    assert vm.query()["proxy"] == "kernel"


@case("SIGKILL of QEMU: the calls end, KVM forgets the VM, others are not touched", timeout=240)
def sigkill():
    """Client and file both see it go."""
    alone(host())
    survivor = single()
    l1 = survivor.l1
    victim = L2(l1, slot=2, **named("victim", 5, smp=2, memory="128M", append=LONE))
    victim.boot()
    with calls(survivor), Hammer(l1, "victim", 4, ("ok", "not-connected")) as hammer:
        victim.process.send_signal(signal.SIGKILL)
        wait_for(lambda: victim.process.poll() is not None, 20, "the end of QEMU")
        wait_for(lambda: "victim" not in vms(l1), 20, "the end of the VM")
        time.sleep(0.3)
    victim.stop()
    assert hammer.counts["not-connected"] >= 4, hammer.counts


def disk(l1):
    """Options of an L2 with a disk for snapshots."""
    path = pathlib.Path(FOLDER.name, "disk.qcow2")
    subprocess.run([QEMU_IMG, "create", "-q", "-f", "qcow2", path, "16M"], check=True)
    (l1.share / "disk.qcow2").write_bytes(path.read_bytes())
    l1.guest.check("cp /share/disk.qcow2 /tmp/")
    return {"extra": ["-blockdev", "driver=file,filename=/tmp/disk.qcow2,node-name=file0",
                      "-blockdev", "driver=qcow2,file=file0,node-name=disk0",
                      "-device", "virtio-blk-pci,drive=disk0"]}


@case("savevm and loadvm with calls going on: those in flight get reset", timeout=300)
def snapshots():
    """savevm ends nothing; loadvm brings the driver back without its registration."""
    l1 = host()
    alone(l1)
    with L2(l1, **named("snap", 3, smp=2, memory="128M", append=f"{LONE} {MOVES}", **disk(l1))) as vm:
        epoch = vm.query()["epoch"]
        with Hammer(l1, "snap", 2, RESET) as hammer:
            assert vm.qmp.hmp("savevm one", timeout=90).strip() == ""
            assert vm.query()["epoch"] == epoch
            hammer.wait_calls()
            assert vm.qmp.hmp("loadvm one", timeout=90).strip() == ""
            wait_connected(vm, epoch, timeout=60)
            hammer.wait_calls()
        comment(f"{hammer.counts}, longest {hammer.result['longest_ms']} ms")
        assert hammer.counts.get("reset", 0) <= 2, hammer.counts
        assert stats(vm)["timed-out"] == 0


def waits_there(vm):
    """A wait is counted; else what the server and its vCPU do."""
    try:
        wait_for(lambda: stats(vm)["waits"] > 0, 20, "a wait at the target")
    except Timeout:
        comment(f"{stats(vm)}, {status(vm.l1, name_of(vm))}")
        comment(f"{driver_file(vm, 'wait')}, {counters(vm)}")
        comment(vm.guest.check("cat /proc/loadavg; top -b -n1 | head -15"))
        raise


@case("live migration to a second QEMU with calls going on, smp 1", timeout=300, smp=1, append=ALWAYS)
@case("live migration to a second QEMU with calls going on, smp 2", timeout=300, smp=2, append=LONE)
def migrates(smp, append):
    """The calls go on during pre-copy, those at the switch get reset, the target serves on."""
    l1 = host()
    alone(l1)
    options = named("moving", 4, smp=smp, memory="128M", append=f"{append} {MOVES}")
    path = f"unix:/tmp/migration-{smp}"
    with L2(l1, **options) as source:
        epoch = source.query()["epoch"]
        target = L2(l1, slot=1, **{**options, "incoming": path}).start()
        try:
            with Hammer(l1, "moving", 2, RESET) as hammer:
                source.qmp.cmd("migrate", uri=path)
                wait_for(lambda: source.qmp.cmd("query-migrate").get("status") in ("completed", "failed"),
                         120, "migration", interval=0.1)
                assert source.qmp.cmd("query-migrate")["status"] == "completed"
                wait_connected(target, epoch, timeout=60)
                # QEMU's own one, of the procedures, is among them.
                wait_for(lambda: stats(target)["completed"] > 5, 20, "calls at the target")
            comment(f"{hammer.counts}, longest {hammer.result['longest_ms']} ms")
            assert hammer.counts.get("reset", 0) <= 2, hammer.counts
            info = target.query()
            assert (info["proxy"], info["gate"]) == ("kernel", "hypercall"), info
            # While calls were queued, no poll had to wait.
            waits_there(target)
            target.guest.sync()
            assert source.query()["state"] == "disconnected"
        finally:
            target.stop()


if __name__ == "__main__":
    main()
