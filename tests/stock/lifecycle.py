#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A stock guest that resets, sleeps, starts another kernel, or has devices of others; hung storage; idleness."""
import os
import pathlib
import re
import shutil
import tempfile
import time

from foreign import Doorbell, Plain
from stand import PATIENT_MS, Load, Served, StockVM, tools

from harness import (balloon_window, case, comment, counters, insmod, kernel_files, main, ms, shared, wait_connected,
                     wait_for)
from harness.sock import STATUS

CORE, ECHO, TEST, SLEEP = 0, 1, 0x101, 1
IDLE = 30           # seconds
IDLE_RATE = 0.2     # wake-ups a second
FOLDER = tempfile.TemporaryDirectory(prefix="rvmrpc-stock-")
DEVICES = ("cd /sys/bus/pci/devices; for d in *; do [ $(cat $d/vendor)$(cat $d/device) != 0x1af40x1110 ] || "
           "echo $d $(od -An -v -tx1 -N64 $d/config | tr -d ' \\n') $(basename $(readlink $d/driver || echo none)); done")


def guest():
    """The guest that cases share, with module test."""
    vm = shared(Served, memory="192M", append="rvmrpc.allow=default,test.*", share=images())
    if vm.guest.run("test -d /sys/module/rvmrpc_test_mod")[0]:
        insmod(vm, "rvmrpc_test_mod")
    works(vm)
    return vm


def images():
    """A folder with a kernel and an initramfs, for kexec."""
    for name, file in zip(("vmlinuz", "initramfs"), kernel_files("6.12")):
        if not os.path.exists(f"{FOLDER.name}/{name}"):
            shutil.copy(file, f"{FOLDER.name}/{name}")
    return FOLDER.name


def works(vm):
    """Three calls in turn."""
    with vm.daemon.client("web") as c:
        for i in range(3):
            assert c.call(ECHO, 0, bytes([i]), timeout=PATIENT_MS) == ("ok", bytes([i]))


def boot_id(vm):
    """Another after each boot."""
    return vm.guest.check("cat /proc/sys/kernel/random/boot_id").strip()


def call_sleeper(vm, client):
    """A call of nearly for ever, which the daemon has."""
    client.submit(TEST, SLEEP, ms(60000), 60000)
    wait_for(lambda: vm.query()["stats"]["in-flight"], 20, "the call")


def answer(client):
    """The status of the next answer."""
    return STATUS[client.recv(50).status]


@case("system_reset: the call under way gets reset, and the driver comes again", timeout=240)
def resets():
    """The connection of the client stays."""
    vm = guest()
    before = vm.query()
    with vm.daemon.client("web") as c:
        call_sleeper(vm, c)
        vm.qmp.cmd("system_reset")
        ended = answer(c)
        assert ended == "reset", ended
        wait_connected(vm, before["epoch"], timeout=120)
        vm.wait_ready()
        assert c.call(CORE, 0)[0] == "ok"


@case("a guest that reboots: the call under way gets not-connected", timeout=240)
def reboots():
    """The driver said goodbye."""
    vm = guest()
    epoch = vm.query()["epoch"]
    with vm.daemon.client("web") as c:
        call_sleeper(vm, c)
        vm.guest.sock.sendall(b"reboot -f\n")
        ended = answer(c)
        assert ended == "not-connected", ended
        wait_connected(vm, epoch, timeout=120)
        vm.wait_ready()


@case("the driver goes and comes ten times under 8 clients' load", timeout=240)
def unloads():
    """Each call ends with a status, and the guest stays."""
    vm = guest()
    vm.guest.check("rmmod rvmrpc_test_mod")
    boot = boot_id(vm)
    with Load(vm.daemon, "web", timeout=PATIENT_MS) as load:
        for _ in range(10):
            epoch = vm.query()["epoch"]
            vm.guest.check("rmmod rvmrpc && modprobe rvmrpc")
            wait_connected(vm, epoch)
            load.wait_more()
    comment(f"{load.statuses}, longest {load.longest * 1e3:.0f} ms")
    assert set(load.statuses) <= {"ok", "not-connected", "reset"}, load.statuses
    assert boot_id(vm) == boot


@case("kexec: the new kernel's driver takes the window over", timeout=240)
def kexecs():
    """No firmware and no reset of devices between."""
    vm = guest()
    vm.guest.check("mount -t 9p -o trans=virtio share /mnt")
    epoch, boot = vm.query()["epoch"], boot_id(vm)
    vm.qmp.take_events()
    with Load(vm.daemon, "web", clients=2, timeout=PATIENT_MS) as load:
        vm.guest.sock.sendall(b'kexec-file /mnt/vmlinuz /mnt/initramfs "$(cat /proc/cmdline)"\n')
        wait_connected(vm, epoch, timeout=120)
        load.wait_more()
    vm.wait_ready()
    assert boot_id(vm) != boot
    assert "RESET" not in {event["event"] for event in vm.qmp.take_events()}
    assert set(load.statuses) <= {"ok", "not-connected", "reset"}, load.statuses
    works(vm)


@case("the window's page table entry is write-back")
def write_back():
    """Emulators ignore the type: only the entry tells."""
    vm = guest()
    text = vm.guest.run(
        "echo 1 >/proc/sys/kernel/kptr_restrict; "
        r"a=$(sed -n 's/^\(0x[0-9a-f]*\)-.* rvmrpc_.*ioremap.*/\1/p' /proc/vmallocinfo | head -1); "
        "insmod /lib/rvmrpc/rvmrpc_pte_test.ko address=$a; dmesg | grep pte: | tail -1")[1]
    assert "peration canceled" in text, text
    assert re.search(r"pte: 0x[0-9a-f]+ level \d write-back", text), text


@case("suspend to RAM and wake up")
def suspends():
    """The driver leaves before, and registers after. The last of this guest: its 9p does not come back."""
    vm = guest()
    epoch, boot = vm.query()["epoch"], boot_id(vm)
    vm.guest.sock.sendall(b"echo mem > /sys/power/state\n")
    vm.qmp.wait_event("SUSPEND", timeout=20)
    with vm.daemon.client("web") as c:
        assert c.call(CORE, 0)[0] in ("stopped", "not-connected")
    vm.qmp.cmd("system_wakeup")
    wait_connected(vm, epoch)
    vm.guest.sync()
    works(vm)
    assert boot_id(vm) == boot


def devices(vm):
    """{address: (config's first 64 bytes in hex, driver)} of all ivshmem devices."""
    found = {}
    for line in vm.guest.check(DEVICES).splitlines():
        words = line.split()
        found[words[0]] = (words[-2], words[-1])
    return found


@case("ivshmem devices of others stay untouched, whichever comes first", timeout=120)
def others():
    """Their memory, their doorbells and all of their configuration."""
    with tempfile.TemporaryDirectory(prefix="rvmrpc-foreign-") as folder:
        ours = [Plain(folder, 1), Doorbell(folder, 2), Doorbell(folder, 3, ident=5)]
        before, after = ["0x4", "0x5", "0x7"], "0x6"
        args = [arg + (f",addr={before.pop(0)}" if arg.startswith("ivshmem-") else "")
                for device in ours for arg in device.args]
        with Served(device_opts=f"addr={after}", foreign=args, append="rvmrpc.load=0") as vm:
            untouched = devices(vm)
            assert len(untouched) == 4, untouched
            vm.guest.check("modprobe rvmrpc")
            vm.wait_state()
            works(vm)
            own = f"0000:00:{int(after, 16):02x}.0"
            now = devices(vm)
            assert now.pop(own)[1] == "rvmrpc", now
            del untouched[own]
            assert now == untouched and {driver for _, driver in now.values()} == {"none"}, (now, untouched)
            vm.guest.check("rmmod rvmrpc && modprobe rvmrpc")
            vm.wait_state()
            assert not [type(device).__name__ for device in ours if device.changed()]
        for device in ours[1:]:
            device.close()


@case("a guest scribbles all over its window for 10 s: calls get a status, and work after it", timeout=120)
def scribbles():
    """Both halves of the channel meet nonsense; neither the driver nor the daemon (ASan) minds."""
    with Served(memory="192M", smp=2, append="iomem=relaxed") as vm:
        window = vm.guest.check("echo /sys/bus/pci/drivers/rvmrpc/0000:*/resource2").strip()
        with Load(vm.daemon, "web", clients=4, timeout=500) as load:
            load.wait_more()
            comment(vm.guest.check(f"scribble-window {window} 10", timeout=60))
            load.wait_more(timeout=30)
        comment(f"{load.statuses}, longest {load.longest:.2f} s")
        lost = vm.query()["stats"]["lost"]
        assert lost > 0 and set(load.statuses) <= set(STATUS) | {"closed"}, (lost, load.statuses)
        works(vm)


@case("7.2: a guest balloons its window: it is served again, and another VM all along", timeout=120, version="7.2")
@case("10.0: a guest balloons its window: it is served again, and another VM all along", timeout=120, version="10.0")
def balloons(version):
    """QEMU discards the pages, twice; the daemon has both VMs in one thread."""
    with Served(more=("calm",), version=version, memory="192M", append="rvmrpc.allow=default,test.*",
                extra=["-device", "virtio-balloon-pci"]) as vm, \
            StockVM(vm.daemon, "calm", version=version, memory="192M") as calm:
        before, longest = calm.query(), []
        with Load(vm.daemon, "web", clients=4, timeout=PATIENT_MS) as load, \
                Load(vm.daemon, "calm", clients=1, timeout=PATIENT_MS) as other:
            for _ in range(2):
                load.wait_more()
                other.forget_longest()
                epoch = vm.query()["epoch"]
                balloon_window(vm)
                wait_connected(vm, epoch, timeout=15)
                load.wait_more()
                other.wait_more()
                longest.append(other.longest)
        comment(f"{load.statuses}, longest {load.longest:.2f} s; the other {other.statuses}, "
                f"longest {[round(seconds, 2) for seconds in longest]} s")
        assert load.statuses["reset"] > 0 and set(load.statuses) <= {"ok", "reset", "not-connected"}, load.statuses
        # What the daemon does for the one takes of the other's time at each; a busy machine, at any.
        assert set(other.statuses) == {"ok"} and min(longest) < 1, (other.statuses, longest)
        after = calm.query()
        assert after["epoch"] == before["epoch"] and vm.query()["stats"]["lost"] >= 2, after
        works(vm)


@case("hung storage: 16 hanging drop-caches do not blind meminfo", timeout=240)
def hung_storage():
    """The disk writes one byte a second, and dirty data waits for it."""
    disk = pathlib.Path(FOLDER.name, "disk.raw")
    with open(disk, "wb") as f:
        f.truncate(1 << 30)
    drive = ["-drive", f"file={disk},format=raw,if=none,id=hung", "-device", "virtio-blk-pci,drive=hung"]
    with Served(memory="512M", extra=drive, append="rvmrpc.watchdog_ms=500") as vm:
        throttle(vm, 1)
        # The last close would write it back.
        vm.guest.check("(exec 3<>/dev/vda; sleep 300) >/dev/null 2>&1 & echo 90 >/proc/sys/vm/dirty_ratio; "
                       "dd if=/dev/zero of=/dev/vda bs=1M count=30 conv=notrunc 2>/dev/null")
        epoch = vm.query()["epoch"]
        ends = []
        for number in range(16):
            done = tools.soon(2, lambda: vm.daemon.rvmrpc("drop-caches", "web", "pagecache", "--sync", "-t", "200"))
            assert done.status != 0, done
            ends.append(done.err.strip().splitlines()[-1])
            if number % 4 == 3:
                time.sleep(1.2)
            assert tools.soon(2, lambda: vm.daemon.ok("meminfo", "web", "--json")).json()["total"] > 0
        comment("\n".join(sorted(set(ends))))
        assert vm.query()["state"] == "connected"
        comment(f"epochs {epoch} to {vm.query()['epoch']}")
        throttle(vm, 0)
        vm.guest.check("sync", timeout=60)
        # A moment later those that hung have left their places, too.
        wait_for(lambda: vm.daemon.rvmrpc("drop-caches", "web", "pagecache", "--sync", "-t", "30000").status == 0, 30,
                 "a drop-caches that does not hang")


def throttle(vm, rate):
    """Bytes a second of the disk, 0 for all."""
    limits = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
    vm.qmp.cmd("block_set_io_throttle", {"device": "hung", **limits, "bps_wr": rate})


@case(f"an idle guest for {IDLE} s: load fades, no more than {IDLE_RATE} wake-ups a second", timeout=240)
def idles():
    """By the driver's counters; the machine may be as busy as it likes. The kernel looks every 5 s who wants the CPU:
    who asks for the load just then is 0.08 of it, and asks again.
    """
    with Served(memory="192M", append=tools.PATIENT) as vm:
        works(vm)
        vm.guest.check("echo 0 >/proc/sys/kernel/watchdog; sleep 3")
        for _ in range(3):
            began, load = idle_once(vm)
            # What was before fades to 0.61 of it in 30 s.
            if load <= 0.7 * began + 0.01:
                return
    raise AssertionError((began, load))


def idle_once(vm):
    """The load before and after that time, in which the driver sleeps."""
    keys = ("sleeps", "rings", "interrupts")
    before, start, began = counters(vm), time.monotonic(), load_average(vm)
    time.sleep(IDLE)
    after, seconds = counters(vm), time.monotonic() - start
    grown = {key: after[key] - before[key] for key in keys}
    load = load_average(vm)
    comment(f"{grown} in {seconds:.0f} s, load {began} to {load}")
    # One more: the first may come at once.
    assert sum(grown.values()) <= IDLE_RATE * seconds + 1, grown
    return began, load


def load_average(vm):
    """Of a minute."""
    return float(vm.guest.check("cat /proc/loadavg").split()[0])


if __name__ == "__main__":
    main()
