#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's own QEMUs on Debian's own KVM, with rvmrpcd beside them in L1."""
import json
import pathlib
import shlex
import subprocess
import sys

from stand import TOOLS, UUID, write_config

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "nested"))

# pylint: disable=wrong-import-position
from levels import L1, L2, MOUNTS  # noqa: E402

from harness import BUILD, case, comment, counters, driver_file, main, shared, wait_for  # noqa: E402

VERSIONS = ("7.2", "10.0")
NAMES = ("web", "db")
COMMAND = "LD_LIBRARY_PATH=/tools /tools/rvmrpc"
CALLS = 20


class StockL1(L1):
    """A host where nothing but our tools is ours. In it: /qemu-7.2, /qemu-10.0, /tools."""

    mounts = {**MOUNTS, "tools": (TOOLS, True), "qemu-7.2": (BUILD / "nested" / "qemu-7.2", True),
              "qemu-10.0": (BUILD / "qemu-10.0", True)}

    def __init__(self, **options):
        super().__init__("stock", **options)
        self.daemons = {}

    def daemon(self, number=0):
        """The folder, in L1, of a daemon, which it starts when there is none."""
        folder = f"/tmp/rvmrpcd-{number}"
        if number not in self.daemons:
            outside = self.share / f"rvmrpcd-{number}"
            outside.mkdir()
            write_config(outside, {name: UUID.format(i) for i, name in enumerate(NAMES, 1)}, inner=folder)
            # No sockets on a mounted folder.
            self.guest.check(
                f"cp -r /share/{outside.name} {folder} && cd {folder} && "
                f"(sh -c 'echo $$ >pid; exec env LD_LIBRARY_PATH=/tools /tools/rvmrpcd --config {folder}/rvmrpcd.conf' "
                f"</dev/null >/share/{outside.name}/log 2>&1 &)")
            self.daemons[number] = outside
            wait_for(lambda: self.guest.run(f"test -S {folder}/sockets/{NAMES[0]}.sock")[0] == 0, 20,
                     f"rvmrpcd {number} in L1", interval=0.2)
        return folder

    def rvmrpc(self, number, *words):
        """(exit status, output) of the command, for the VMs of a daemon."""
        return self.guest.run(f"RVMRPC_PATH=/tmp/rvmrpcd-{number}/sockets {COMMAND} {shlex.join(map(str, words))}",
                              timeout=60)

    def report(self, _error=None):
        """With the daemons' logs."""
        super().report()
        for outside in self.daemons.values():
            for line in (outside / "log").read_text(errors="replace").splitlines()[-20:]:
                print(f"# {outside.name}: {line}")


class StockL2(L2):
    """A guest of Debian's QEMU and KVM, with a daemon's window."""

    def __init__(self, l1, slot=0, *, name="web", version="7.2", number=0, master=False, extra=(), **options):
        self.name, self.version, self.number, self.master = name, version, number, master
        self.PROGRAM = (f"/qemu-{version}/qemu-system-x86_64",)    # pylint: disable=invalid-name
        extra = ["-name", f"guest={name},debug-threads=on", "-uuid", UUID.format(NAMES.index(name) + 1), *extra]
        super().__init__(l1, slot, extra=extra, **{"memory": "192M", **options})

    def _device_args(self):
        folder = self.l1.daemon(self.number)
        return ["-chardev", f"socket,id=iv,path={folder}/ivshmem/{self.name}.ivshmem",
                "-device", "ivshmem-doorbell,vectors=1,chardev=iv" + (",master=on" if self.master else "")]

    def ok(self, *words):
        """The command's output."""
        code, text = self.l1.rvmrpc(self.number, *words)
        assert code == 0, (words, code, text)
        return text

    def json(self, *words):
        """As JSON."""
        return json.loads(self.ok(*words, "--json"))

    def query(self):
        """As the command has it."""
        code, text = self.l1.rvmrpc(self.number, "info", self.name, "--json")
        return json.loads(text) if code == 0 else {"state": text.strip()}


def host():
    """The L1 of all cases."""
    return shared(StockL1)


def guest(version="7.2"):
    """The guest that cases share; of another version, another."""
    number = VERSIONS.index(version)
    return shared(StockL2, l1=host(), version=version, name=NAMES[number], slot=number)


def total(vm):
    """MemTotal, by the guest itself."""
    return int(vm.guest.check("awk '/MemTotal/ { print $2 }' /proc/meminfo")) * 1024


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


def asleep(vm):
    """20 calls to a sleeper while all of QEMU but its vCPUs is stopped; the growth of interrupts.

    There may be more than calls: a slow guest is kicked again.
    """
    before = counters(vm)["interrupts"]
    text = vm.l1.guest.check(
        f"/clients/freeze {vm.process.pid} env RVMRPC_PATH=/tmp/rvmrpcd-{vm.number}/sockets {COMMAND} "
        f"ping -c {CALLS} -i 0.1 {vm.name}", timeout=60)
    assert "vCPUs go on" in text and not text.startswith("0 ") and f"{CALLS} calls" in text, text
    return counters(vm)["interrupts"] - before


@case("irqfd: a sleeper is woken, and answers, without QEMU", timeout=180)
def irqfd():
    """KVM passes the interrupt in and the doorbell out."""
    vm = guest()
    grown = asleep(vm)
    comment(f"{CALLS} calls, {grown} interrupts")
    assert grown >= CALLS, grown


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


@case("savevm and loadvm with master=on: irqfd works after", timeout=240)
def snapshots():
    """QEMU binds it anew when MSI-X is switched on, and after a state was loaded it is bound to nothing."""
    l1 = host()
    if l1.guests[0]:
        l1.guests[0].stop()
    with StockL2(l1, name="web", master=True, extra=disk(l1)) as vm:
        assert not vm.qmp.hmp("savevm one", timeout=90)
        epoch = driver_epoch(vm)
        assert vm.json("meminfo", "web")["total"] == total(vm)
        for _ in range(2):
            assert not vm.qmp.hmp("loadvm one", timeout=90)
            vm.guest.sync()
            wait_for(lambda: driver_epoch(vm) != epoch, 20, "another epoch", interval=0.2)
            epoch = driver_epoch(vm)
            vm.wait_state()
        assert vm.json("meminfo", "web")["total"] == total(vm)
        grown = asleep(vm)
        comment(f"{CALLS} calls, {grown} interrupts")
        assert grown >= CALLS, grown


@case("live migration to a VM of another daemon: irqfd works there", timeout=240)
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
            target.wait_state(timeout=20)
            assert target.guest.check("cat /proc/sys/kernel/random/boot_id") == boot
            assert target.json("meminfo", "web")["total"] == total(target)
            grown = asleep(target)
            comment(f"{CALLS} calls, {grown} interrupts")
            assert grown >= CALLS, grown


if __name__ == "__main__":
    main()
