#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's own QEMUs on Debian's own KVM, with rvmrpcd beside them in L1."""
import subprocess

from hosts import COMMAND, NAMES, StockL1, StockL2, total

from harness import case, comment, counters, driver_file, main, shared, wait_for

VERSIONS = ("7.2", "10.0")
CALLS = 20
# Seconds between them, for the driver to fall asleep again: the next where a busy host did not let it in time.
INTERVALS = (0.1, 0.5, 1)


def host():
    """The L1 of all cases."""
    return shared(StockL1)


def guest(version="7.2"):
    """The guest that cases share; of another version, another."""
    number = VERSIONS.index(version)
    return shared(StockL2, l1=host(), version=version, name=NAMES[number], slot=number)


def each(name, **options):
    """A case for each QEMU."""
    def register(thing):
        for version in VERSIONS:
            case(f"{version}: {name}", version=version, **options)(thing)
        return thing
    return register


@each("Debian's QEMU on Debian's KVM: list, meminfo, watch, ping", timeout=240)
def calls(version):
    """None of L1's modules is ours."""
    vm = guest(version)
    assert vm.qmp.greeting["version"]["package"].startswith("Debian"), vm.qmp.greeting
    assert vm.qmp.cmd("query-kvm")["enabled"]
    assert vm.l1.guest.run("test -e /dev/rvmrpc")[0], "L1's KVM is ours"
    found = {one["name"]: one for one in vm.json("list")}[vm.name]
    assert found["state"] == "connected" and found["way"] == "socket", found
    assert found["pid"] == vm.process.pid, found
    assert vm.json("meminfo", vm.name)["total"] == total(vm)
    line = vm.json("watch", vm.name, "-c", "1")
    assert line["memory"]["total"] == total(vm), line
    text = vm.ok("ping", "-c", "100", "-i", "0.01", vm.name)
    assert "100 calls" in text, text
    comment(text.strip().splitlines()[-1])


def interrupts_of(vm, interval):
    """Of 20 calls while all of QEMU but its vCPUs is stopped."""
    before = counters(vm)["interrupts"]
    text = vm.l1.guest.check(
        f"/clients/freeze {vm.process.pid} env RVMRPC_PATH=/tmp/rvmrpcd-{vm.number}/sockets {COMMAND} "
        f"-t 10000 ping -c {CALLS} -i {interval} {vm.name}", timeout=90)
    assert "vCPUs go on" in text and not text.startswith("0 ") and f"{CALLS} calls" in text, text
    grown = counters(vm)["interrupts"] - before
    comment(f"{CALLS} calls, {grown} interrupts")
    return grown


def asleep(vm):
    """Each call to a sleeper is an interrupt. There may be more: a slow guest is kicked again."""
    assert any(interrupts_of(vm, interval) >= CALLS for interval in INTERVALS), "fewer interrupts than calls"


@case("irqfd: a sleeper is woken, and answers, without QEMU", timeout=300)
def irqfd():
    """KVM passes the interrupt in and the doorbell out."""
    asleep(guest())


def disk(l1):
    """QEMU's words for a disk that takes snapshots."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", l1.share / "disk.qcow2", "64M"], check=True)
    l1.guest.check("cp /share/disk.qcow2 /tmp/")
    return ["-blockdev", "driver=file,filename=/tmp/disk.qcow2,node-name=file0",
            "-blockdev", "driver=qcow2,file=file0,node-name=disk0",
            "-device", "virtio-blk-pci,drive=disk0"]


def driver_epoch(vm):
    """The driver's, or none while it has none."""
    return driver_file(vm, "epoch")


@case("savevm and loadvm with master=on: irqfd works after", timeout=400)
def snapshots():
    """QEMU binds it anew when MSI-X is switched on, and after a state was loaded it is bound to nothing."""
    l1 = host()
    if l1.guests[0]:
        l1.guests[0].stop()
    with StockL2(l1, name="web", master=True, extra=disk(l1)) as vm:
        assert not vm.qmp.hmp("savevm one", timeout=90)
        epoch = driver_epoch(vm)
        assert vm.json("meminfo", "web")["total"] == total(vm)
        assert not vm.qmp.hmp("loadvm one", timeout=90)
        vm.guest.sync()
        wait_for(lambda: driver_epoch(vm) != epoch, 20, "another epoch", interval=0.2)
        vm.wait_state()
        assert vm.json("meminfo", "web")["total"] == total(vm)
        asleep(vm)


@case("live migration to a VM of another daemon: irqfd works there", timeout=400)
def migrates():
    """In the same L1, whose second daemon has other files."""
    l1 = host()
    for vm in list(filter(None, l1.guests)):
        vm.stop()
    with StockL2(l1, name="web", master=True) as source:
        boot = source.guest.check("cat /proc/sys/kernel/random/boot_id")
        target = StockL2(l1, 1, name="web", number=1, master=True, incoming="unix:/tmp/migration.sock").start()
        with target:
            source.qmp.cmd("migrate", uri="unix:/tmp/migration.sock")
            wait_for(lambda: source.qmp.cmd("query-migrate").get("status") in ("completed", "failed"), 90,
                     "migration", interval=0.2)
            assert source.qmp.cmd("query-migrate")["status"] == "completed"
            target.wait_ready()
            target.wait_state(timeout=60)
            assert target.guest.check("cat /proc/sys/kernel/random/boot_id") == boot
            assert target.json("meminfo", "web")["total"] == total(target)
            asleep(target)


if __name__ == "__main__":
    main()
