#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest on emulated arm64 (-M virt, GICv3 with its ITS): the device of our QEMU, and Debian's QEMU with rvmrpcd.

TCG on x86 keeps more order than arm64 need: what the window's barriers are is not seen here, but by tests/unit's model
and tests/litmus.
"""
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "vm"), str(HERE.parent / "stock")]

# pylint: disable=wrong-import-position
from harness import (BUILD, VM, call, case, comment, counters, driver_file, insmod, main, set_parameter,  # noqa: E402
                     shared, stats, wait_connected, wait_for)
from harness.patient import oom_kill  # noqa: E402
from harness.vm import CMDLINE  # noqa: E402
from stand import QEMUS, Served  # noqa: E402

SERIES = "bookworm-arm64"
QEMUS["arm64"] = BUILD / "qemu-system-arm" / "qemu-system-aarch64"
BOOT = 240      # emulated, on busy machines
PAGES = "awk '/KernelPageSize/ { print $2; exit }' /proc/1/smaps"


class Arm:
    """The board, for VM and its kin: the console is a PL011, the shell's port a PCI card, which is ttyS0 there."""

    boot_timeout = BOOT
    cmdline = CMDLINE.replace("ttyS0", "ttyAMA0") + " shell_tty=ttyS0"

    def _port_args(self):
        return ["-chardev", "file,id=console,path=console.log,append=on", "-serial", "chardev:console",
                "-chardev", self._channel("guest"), "-device", "pci-serial,chardev=guest"]


def options(more=None):
    """Of the board."""
    return {"kernel": SERIES, "machine": "virt,gic-version=3,highmem=on", "smp": 2, "memory": "512M",
            "cpu": "cortex-a57", **(more or {})}


class ArmVM(Arm, VM):
    """With our device."""

    def __init__(self, **more):
        super().__init__(qemu=BUILD / "qemu-arm64" / "qemu-system-aarch64", **options(more))


class ArmServed(Arm, Served):
    """Of Debian's QEMU, with rvmrpcd."""

    def __init__(self):
        super().__init__("web", version="arm64", **options())


def guest():
    """Of most cases."""
    return shared(ArmVM, device_opts="log=1M", append="rvmrpc.allow=default,0x100.*")


def total(vm):
    """Of the guest's own /proc/meminfo, in bytes."""
    return int(re.search(r"MemTotal: +(\d+)", vm.guest.check("cat /proc/meminfo"))[1]) * 1024


@case("connected: by the doorbell gate, which the hypercall is not, and a window mapped write-back", timeout=BOOT + 60)
def connected():
    """The device offers what the driver uses."""
    vm = guest()
    info = vm.query()
    comment(f"{info['release']}, pages of {vm.guest.check(PAGES).strip()} KiB")
    assert info["release"] == vm.guest.check("uname -r").strip() and info["os"] == "linux"
    assert vm.guest.check("uname -m").strip() == "aarch64"
    assert info["gate"] == driver_file(vm, "gate") == "doorbell", info
    assert driver_file(vm, "window") == "write-back"
    assert info["stats"]["hypercalls"] == 0, info


@case("meminfo, to the byte; the load average, CPUs and release")
def sysinfo():
    """What has no number on arm64 is absent, and is in the text."""
    vm = guest()
    assert vm.qmp.cmd("guest-meminfo")["total"] == total(vm)
    assert set(vm.qmp.cmd("guest-loadavg")) >= {"load1m", "load5m", "load15m"}
    cpus = vm.qmp.cmd("guest-cpuinfo")
    assert cpus["online"] == 2 and len(cpus["cpus"]) == 2 and "vendor" not in cpus["cpus"][0], cpus
    assert len(vm.qmp.cmd("guest-cpustat")["cpus"]) == 2
    assert vm.qmp.cmd("guest-osinfo")["machine"] == "aarch64"


@case("1000 calls, each with its own answer", timeout=180)
def calls():
    """Of sizes up to a slot's."""
    vm = guest()
    before = stats(vm)
    for number in range(1000):
        data = bytes([number & 255]) * (number * 4)
        assert call(vm.qmp, "echo", "echo", data, timeout=10000) == ("ok", data), number
    after = stats(vm)
    assert after["completed"] - before["completed"] == 1000
    assert after["failed"] == before["failed"] and after["bad-replies"] == 0, after


@case("a sleeping driver is woken by MSI-X, through the ITS")
def interrupts():
    """Without spinning each call is an interrupt."""
    vm = guest()
    set_parameter(vm, "spin_us", 0)
    before = counters(vm)
    for _ in range(20):
        assert call(vm.qmp, "echo", "echo", b"x", timeout=10000) == ("ok", b"x")
    after = counters(vm)
    set_parameter(vm, "spin_us", 1000)
    assert after["interrupts"] - before["interrupts"] >= 10, (before, after)
    assert "ITS" in vm.guest.check("grep rvmrpc /proc/interrupts")


@case("VMRPC by the doorbell gate: a line of the guest's kernel is printed by the host")
def vmrpc():
    """By guest virtual address."""
    vm = guest()
    insmod(vm, "vmrpc_print_example", "space=vmm message='\"Hello from arm64\"'")
    assert "rvmrpc: guest: Hello from arm64\n" in vm.log_text()
    vm.guest.check("rmmod vmrpc_print_example")


@case("an OOM kill is told", timeout=120)
def events():
    """By the kernel's own trace point."""
    vm = guest()
    victim = oom_kill(vm)
    data = vm.qmp.wait_event("GUEST_KERNEL_EVENT", 60, lambda event: event["type"] == "oom-kill")["data"]
    assert (data["pid"], data["process"]) == victim, (data, victim)


@case("drop-caches frees what the page cache held", timeout=120)
def drop_caches():
    """The guest's kernel logs it."""
    vm = guest()
    before = vm.guest.check("dmesg | grep -c drop_caches || true")
    answer = vm.qmp.cmd("guest-drop-caches", {"mode": "all", "timeout": 30000}, timeout=60)
    assert "freed" in answer, answer
    assert int(vm.guest.check("dmesg | grep -c drop_caches")) > int(before)


@case("system_reset: another epoch", timeout=BOOT + 60)
def reset():
    """The guest boots again."""
    vm = guest()
    epoch = vm.query()["epoch"]
    vm.qmp.cmd("system_reset")
    vm.guest.sync(BOOT)
    wait_connected(vm, epoch, BOOT)
    assert vm.qmp.cmd("guest-meminfo")["total"] == total(vm)


@case("migration to another QEMU: another epoch, and calls work there", timeout=BOOT + 120)
def migration():
    """The window is no part of the VM's state."""
    source = guest()
    epoch = source.query()["epoch"]
    more = {name: source.options[name] for name in ("device_opts", "append")}
    target = ArmVM(incoming="unix:migration.sock", **more).start()
    try:
        source.qmp.cmd("migrate", uri=f"unix:{target.dir}/migration.sock")
        wait_for(lambda: source.qmp.cmd("query-migrate")["status"] == "completed", 60, "migration")
        info = wait_connected(target, epoch, 60)
        assert info["gate"] == "doorbell", info
        for number in range(100):
            assert call(target.qmp, "echo", "echo", bytes([number]), timeout=10000) == ("ok", bytes([number]))
        assert target.qmp.cmd("guest-meminfo")["total"] == total(target)
    finally:
        target.stop()
        source.stop()


@case("Debian's QEMU and rvmrpcd: meminfo, 1000 calls, reset", timeout=2 * BOOT + 60)
def stock():
    """By ivshmem-doorbell, with no gate."""
    with ArmServed() as vm:
        daemon = vm.daemon
        assert daemon.json("meminfo", "web")["total"] == total(vm)
        assert len(daemon.json("cpuinfo", "web")["cpus"]) == 2 and daemon.ok("cpuinfo", "web").out
        assert driver_file(vm, "gate") == "none" and driver_file(vm, "window") == "write-back"
        with daemon.client("web") as client:
            for number in range(1000):
                data = bytes([number & 255]) * (number * 4)
                assert client.call(1, 0, data, timeout=10000) == ("ok", data), number
        epoch = vm.query()["epoch"]
        vm.qmp.cmd("system_reset")
        vm.guest.sync(BOOT)
        wait_connected(vm, epoch, BOOT)
        assert daemon.json("meminfo", "web")["total"] == total(vm)


if __name__ == "__main__":
    main()
