#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The cases of tests/vm/freebsd.py under Debian's QEMU: the window is ivshmem's, its other end rvmrpcd's.

What FreeBSD it is, that file's variables say; RVMRPC_FREEBSD_QEMU is 7.2 (default) or 10.0.
"""
import base64
import itertools
import os

from stand import QEMUS, Rvmrpcd, Served

import freebsd
from harness import QMPError, Skip, case, main, wait_for
from harness.paths import QEMU
from harness.sock import ANSWER, EVENT, STATUS

VERSION = os.environ.get("RVMRPC_FREEBSD_QEMU", "7.2")
NUMBERS = {"core": (0, {"exit": 3}), "echo": (1, {"echo": 0}),
           "reclaim": (3, {"drop_caches": 0, "shrink": 1, "compact": 2}), "sysctl": (5, {"read": 0}),
           "pressure": (6, {"psi": 0, "vmstat": 1, "disks": 2}), "tasks": (7, {"list": 0, "blocked": 1}),
           "klog": (8, {"read": 0}), "fs": (9, {"list": 0}), "net": (10, {"list": 0}),
           "clock": (11, {"read": 0, "set": 1}), "control": (12, {"sysrq": 0, "sync": 1, "poweroff": 2, "reboot": 3}),
           "freeze": (13, {"freeze": 0, "thaw": 1, "status": 2}),
           "test": (0x101, {"sleep-inline": 0, "sleep": 1, "fail": 2, "spin": 3})}


class Asked:
    """A monitor whose guest-* commands the daemon answers, as QEMU of ours does."""

    def __init__(self, qmp, daemon, name):
        self.qmp, self.daemon, self.name = qmp, daemon, name
        self.calls = {}
        self.idents = itertools.count(1)

    def __getattr__(self, name):
        return getattr(self.qmp, name)

    def cmd(self, name, arguments=None, timeout=30.0, **more):
        """As QMP's."""
        if name == "guest-kernel-call":
            return self.recv(self.send(name, arguments), timeout)
        if not name.startswith("guest-"):
            return self.qmp.cmd(name, arguments, timeout, **more)
        words = [name.removeprefix("guest-"), self.name]
        words += [more["mode"]] if "mode" in more else []
        words += [f"--{key}" for key in ("raw", "sync") if more.get(key)]
        result = self.daemon.rvmrpc(*words, "--json")
        if result.status:
            # The command explains a status; QMP names it.
            text = "not-allowed" if "allow-list" in result.err else result.err.strip()
            raise QMPError(name, {"class": "GenericError", "desc": text})
        answer = {"os": self.daemon.query(self.name)["os"], **result.json()}
        if name == "guest-cpustat":
            # What an OS does not count the command prints as 0.
            for one in (answer["total"], *answer["cpus"]):
                one.pop("iowait")
                one.pop("steal")
        return answer

    def send(self, name, arguments):
        """A call, on a connection of its own."""
        assert name == "guest-kernel-call"
        module, procedure = arguments["module"], arguments["procedure"]
        if not isinstance(module, int):
            number, procedures = NUMBERS[module]
            module, procedure = number, procedures[procedure]
        client = self.daemon.client(self.name)
        client.submit(module, procedure, base64.b64decode(arguments.get("data", "")), arguments.get("timeout", 0))
        ident = next(self.idents)
        self.calls[ident] = client
        return ident

    def recv(self, ident, timeout=70.0):
        """Its answer."""
        with self.calls.pop(ident) as client:
            frame = client.recv(timeout)
            while frame.kind == EVENT:
                frame = client.recv(timeout)
        assert frame.kind == ANSWER, vars(frame)
        return {"status": STATUS[frame.status], "data": base64.b64encode(frame.payload)}


class StockFreeBSD(freebsd.FreeBSD, Served):
    """The same guest, with a daemon of its own."""

    has_gate = False
    tells_leave = False
    saves = {"master": True}

    def __init__(self, **options):
        super().__init__(version=VERSION, **options)

    def _connect_all(self):
        super()._connect_all()
        self.qmp = Asked(self.qmp, self.daemon, self.name)


@case("another user's ivshmem is left alone, and with ivshmem=off ours is, too", timeout=2 * freebsd.BOOT_TIMEOUT)
def foreign():
    """No driver attaches; ours serves in spite of the other."""
    freebsd.needed()
    other = ("-object", "memory-backend-ram,id=m,size=1M,share=on", "-device", "ivshmem-plain,memdev=m,addr=0x10")
    with StockFreeBSD(extra=other) as vm:
        freebsd.works(vm)
        devices = vm.guest.check("pciconf -l").splitlines()
        drivers = sorted(line.split("@")[0] for line in devices if "0x11101af4" in line or "1af41110" in line or
                         "vendor=0x1af4 device=0x1110" in line)
        assert len(drivers) == 2 and drivers[1] == "rvmrpc0" and drivers[0].startswith("none"), devices
        vm.guest.check("kldunload rvmrpc && kenv hw.rvmrpc.ivshmem=off")
        vm.guest.check(f"kldload {vm.folder}/rvmrpc.ko")
        assert vm.guest.run("sysctl -n dev.rvmrpc.0.state")[0]
        vm.guest.check(f"kldunload rvmrpc && kenv hw.rvmrpc.ivshmem=auto && kldload {vm.folder}/rvmrpc.ko")
        vm.wait_state("connected", 20)
        freebsd.works(vm)


@case("kill -9 of the daemon: the guest says hello to the next one", timeout=freebsd.BOOT_TIMEOUT)
def daemon_dies():
    """By its own epoch, with calls as before."""
    vm = freebsd.guest()
    epoch = vm.query()["epoch"]
    vm.daemon.kill()
    vm.daemon.start()
    wait_for(lambda: vm.query()["state"] == "connected" and vm.query()["epoch"] != epoch, 30, "another epoch")
    freebsd.works(vm)


@case("both devices: ours serves, whatever is on the ivshmem", timeout=freebsd.BOOT_TIMEOUT)
def both():
    """In whichever order the bus has them."""
    freebsd.needed()
    if not QEMU.exists():
        raise Skip(f"no {QEMU}")
    for place in ("0x4", "0x10"):
        with Rvmrpcd("web") as daemon:
            other = ("-chardev", f"socket,id=iv,path={daemon.ivshmem('web')}", "-device",
                     f"ivshmem-doorbell,vectors=1,chardev=iv,addr={place}")
            with freebsd.FreeBSD(device_opts="addr=0x8", extra=other) as vm:
                freebsd.works(vm)
                assert "device=0x10f0" in vm.sysctl("dev.rvmrpc.0.%pnpinfo")
                assert vm.guest.run("sysctl -n dev.rvmrpc.1.state")[0]
                assert daemon.query("web")["state"] != "connected"


freebsd.KIND[0] = StockFreeBSD
freebsd.QEMU_IMG = QEMUS[VERSION].with_name("qemu-img")

if __name__ == "__main__":
    main(guests=bool(freebsd.IMAGE or freebsd.KERNEL))
