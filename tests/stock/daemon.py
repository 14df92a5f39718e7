#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""rvmrpcd that restarts, dies and stops, snapshots, and migration between two daemons."""
import pathlib
import subprocess
import tempfile
import time

from stand import PATIENT_MS, Load, Rvmrpcd, Served, StockVM, tools, wait_event

from harness import QMPError, Timeout, case, comment, main, shared, wait_connected, wait_for
from harness.paths import QEMU_IMG
from harness.sock import SUBSCRIBE

CORE, ECHO = 0, 1
# What a call may end with while the daemon goes: a status, or the end of its connection.
GOING = {"ok", "closed", "not-connected", "reset", "cancelled"}
FOLDER = tempfile.TemporaryDirectory(prefix="rvmrpc-stock-")
ROUNDS = 4


def guest():
    """The guest that cases share."""
    return shared(Served, memory="192M")


def boot_id(vm):
    """Another after each boot."""
    return vm.guest.check("cat /proc/sys/kernel/random/boot_id").strip()


def works(daemon, name="web"):
    """Three calls in turn."""
    with daemon.client(name) as c:
        for i in range(3):
            assert c.call(ECHO, 0, bytes([i]), timeout=PATIENT_MS) == ("ok", bytes([i]))


@case("what the daemon stores: by VM, and no more after restarts")
def stores():
    """The connection, the memory and both eventfds."""
    vm = guest()
    works(vm.daemon)
    names = sorted(vm.daemon.store.names())
    comment(" ".join(names))
    assert len(names) == 4, names
    for _ in range(3):
        vm.daemon.restart()
        vm.wait_state()
    assert sorted(vm.daemon.store.names()) == names
    works(vm.daemon)


@case("the daemon restarts under 8 clients' load: no VM is touched", timeout=120, kill=False)
@case("the daemon is SIGKILLed under 8 clients' load: no VM is touched", timeout=120, kill=True)
def restarts(kill):
    """Each call ends, the next works; the guest has not noticed more than an epoch's end."""
    vm = guest()
    boot, pid = boot_id(vm), vm.process.pid
    with Load(vm.daemon, "web", timeout=PATIENT_MS) as load:
        for _ in range(ROUNDS):
            epoch = vm.query()["epoch"]
            load.wait_more()
            if kill:
                vm.daemon.kill()
                vm.daemon.start()
            else:
                vm.daemon.restart()
            wait_connected(vm, epoch, timeout=15)
            load.wait_more()
    comment(f"{load.statuses}, longest {load.longest * 1e3:.0f} ms")
    assert set(load.statuses) <= GOING, load.statuses
    assert (boot_id(vm), vm.process.pid) == (boot, pid) and vm.process.poll() is None
    works(vm.daemon)


@case("a VM that ends while the daemon is away is missed, and comes again", timeout=90)
def ends_meanwhile():
    """Its connection was stored, too."""
    daemon = Rvmrpcd("web")
    with daemon:
        vm = StockVM(daemon, "web", memory="192M").boot()
        daemon.kill()
        vm.process.kill()
        vm.process.wait(10)
        vm.stop()
        daemon.start()
        wait_for(lambda: daemon.query("web")["state"] == "disconnected", 10, "a VM that is gone")
        with StockVM(daemon, "web", memory="192M"):
            works(daemon)


@case("a daemon that has lost its descriptors: the VM goes on without, and the next start of it is served", timeout=90)
def loses():
    """As after systemctl stop: the channel is lost, not the VM."""
    daemon = Rvmrpcd("web")
    with daemon:
        vm = StockVM(daemon, "web", memory="192M").boot()
        with vm:
            boot = boot_id(vm)
            daemon.stop()
            daemon.store.forget()
            daemon.start()
            assert daemon.query("web")["state"] == "disconnected"
            assert tools.soon(2, lambda: daemon.rvmrpc("meminfo", "web")).status != 0
            time.sleep(1)
            assert boot_id(vm) == boot and vm.qmp.cmd("query-status")["running"]
        with StockVM(daemon, "web", memory="192M"):
            works(daemon)


def sleeper_works(daemon):
    """The seconds of three calls to a driver that sleeps until an interrupt."""
    time.sleep(1)
    start = time.monotonic()
    works(daemon)
    return time.monotonic() - start


def disk(name):
    """QEMU's words for a disk that takes snapshots."""
    path = pathlib.Path(FOLDER.name, name)
    subprocess.run([QEMU_IMG, "create", "-q", "-f", "qcow2", path, "64M"], check=True)
    return ["-blockdev", f"driver=file,filename={path},node-name=file0",
            "-blockdev", "driver=qcow2,file=file0,node-name=disk0",
            "-device", "virtio-blk-pci,drive=disk0"]


@case("7.2: savevm and loadvm under load, with master=on", timeout=120, version="7.2")
@case("10.0: savevm and loadvm under load, with master=on", timeout=120, version="10.0")
def snapshots(version):
    """The driver comes again after each loadvm; interrupts come as before."""
    with Served(version=version, master=True, memory="192M", extra=disk(f"{version}.qcow2")) as vm:
        # Its time goes on while savevm has the VM stand still.
        with Load(vm.daemon, "web", clients=2, timeout=PATIENT_MS) as load:
            load.wait_more()
            epoch = vm.query()["epoch"]
            assert not vm.qmp.hmp("savevm one", timeout=60)
            load.wait_more()
            assert vm.query()["epoch"] == epoch, "savevm ends no epoch"
            vm.guest.check("touch /tmp/after")
            for _ in range(2):
                epoch = vm.query()["epoch"]
                assert not vm.qmp.hmp("loadvm one", timeout=60)
                wait_connected(vm, epoch, timeout=15)
                load.wait_more()
        assert set(load.statuses) <= {"ok", "reset", "not-connected"}, load.statuses
        assert vm.guest.sync() and vm.guest.run("test -e /tmp/after")[0] == 1
        seconds = min(sleeper_works(vm.daemon) for _ in range(3))
        comment(f"{load.statuses}; three calls to a sleeper {seconds * 1e3:.1f} ms")
        assert seconds < 2


@case("without master=on, a migration is refused with a reason")
def refuses():
    """As ivshmem does by itself."""
    vm = guest()
    try:
        vm.qmp.cmd("migrate", uri="exec:cat > /dev/null")
    except QMPError as error:
        assert "peer mode" in error.desc, error.desc
    else:
        raise AssertionError("it migrates")
    works(vm.daemon)


@case("7.2: live migration to a VM of another daemon, and back", timeout=150, versions=("7.2", "7.2"))
@case("10.0: live migration to a VM of another daemon, and back", timeout=150, versions=("10.0", "10.0"))
def migrates(versions):
    """With master=on. The source's channel ends, the target's begins."""
    daemons = [Rvmrpcd("web"), Rvmrpcd("web")]
    vms = []
    with daemons[0], daemons[1]:
        try:
            vms.append(StockVM(daemons[0], "web", version=versions[0], master=True, memory="192M",
                               append=tools.PATIENT).boot())
            boot = boot_id(vms[0])
            for turn in (1, 0):
                vms.append(StockVM(daemons[turn], "web", version=versions[turn], master=True, memory="192M",
                                   append=tools.PATIENT, incoming="unix:migration.sock").start())
                switch(daemons, turn, *vms[-2:])
            assert boot_id(vms[-1]) == boot
        finally:
            for vm in vms:
                vm.stop()


def switch(daemons, turn, source, target):
    """Migrates under load and ends the source."""
    with Load(daemons[1 - turn], "web", clients=2) as load, daemons[turn].client("web") as events:
        events.query(SUBSCRIBE)
        load.wait_more()
        source.qmp.cmd("migrate", uri=f"unix:{target.dir}/migration.sock")
        wait_for(lambda: source.qmp.cmd("query-migrate").get("status") in ("completed", "failed"), 60,
                 "migration", interval=0.1)
        assert source.qmp.cmd("query-migrate")["status"] == "completed"
        assert wait_event(events, "RVMRPC_CONNECTED")["os"] == "linux"
    # Nobody answers at the source, and it does not know.
    assert set(load.statuses) <= {"ok", "timed-out", "reset", "not-connected", "stopped"}, load.statuses
    comment(f"{load.statuses}, longest {load.longest * 1e3:.0f} ms")
    try:
        status = daemons[1 - turn].rvmrpc("meminfo", "web", "-t", "1000", timeout=20).status
    except Timeout:
        status = "hangs"
    assert status not in (0, "hangs"), status
    source.stop()
    target.guest.sync()
    works(daemons[turn])


if __name__ == "__main__":
    main()
