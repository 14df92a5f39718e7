#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Reset, snapshot, migration, driver and device that come and go: the driver
registers again by itself, and calls under way get "reset".
"""
import contextlib
import pathlib
import subprocess
import tempfile
import threading
import time

from harness import (QMP, VM, Late, QMPError, call, call_args, case, comment, counters, insmod, main,
                     ms, set_parameter, shared, stats, wait_connected, wait_for)
from harness.paths import QEMU_IMG, connect_unix

FOLDER = tempfile.TemporaryDirectory(prefix="rvmrpc-disk-")
MODES = {0: "interrupt", -1: "vmlp", 50: None}
TEST = "rvmrpc.allow=default,test.*"


def options(**more):
    """Of a guest with a human monitor beside."""
    return {"append": TEST, "memory": "192M", "device_opts": "id=rvmrpc0",
            "extra": ["-chardev", "socket,id=human,path=human.sock,server=on,wait=off",
                      "-mon", "chardev=human,mode=readline"], **more}


def snapshot_options():
    """With a disk for snapshots."""
    path = pathlib.Path(FOLDER.name, "disk.qcow2")
    if not path.exists():
        subprocess.run([QEMU_IMG, "create", "-q", "-f", "qcow2", path, "64M"], check=True)
    made = options()
    made["extra"] += ["-blockdev", f"driver=file,filename={path},node-name=file0",
                      "-blockdev", "driver=qcow2,file=file0,node-name=disk0",
                      "-device", "virtio-blk-pci,drive=disk0"]
    return made


def human(vm, line):
    """A line to the human monitor; its answer is not awaited."""
    with contextlib.closing(connect_unix(vm.dir / "human.sock")) as sock:
        sock.settimeout(10)
        text = b""
        while b"(qemu) " not in text:
            text += sock.recv(4096)
        sock.sendall(line.encode() + b"\n")
        text = b""
        with contextlib.suppress(OSError):
            while b"(qemu) " not in text:
                chunk = sock.recv(4096)
                if not chunk:
                    break
                text += chunk


def loaded(vm):
    """Module "test" is there, and the channel works."""
    vm.qmp2.cmd("query-name")
    if vm.guest.run("test -d /sys/module/rvmrpc_test_mod")[0]:
        insmod(vm, "rvmrpc_test_mod")
    assert call(vm.qmp, "test", "xid", timeout=5000)[0] == "ok"
    return vm


def guest():
    """The guest that most cases share."""
    return loaded(shared(**snapshot_options()))


def works(vm):
    """Three calls in turn."""
    for i in range(3):
        assert call(vm.qmp, "echo", "echo", bytes([i]), timeout=5000) == ("ok", bytes([i]))


def long_call(vm):
    """Sends a call of 10 s, and returns when it runs in the guest."""
    before = counters(vm)["workers"]
    ident = vm.qmp.send("guest-kernel-call", call_args("test", "sleep", ms(10000), 20000))
    wait_for(lambda: counters(vm)["workers"] == before + 1, 9, "the call in the guest")
    return ident


def set_mode(vm, idle_us):
    """Sets vmlp_idle_us and lets the server come to rest in it."""
    set_parameter(vm, "vmlp_idle_us", idle_us)
    works(vm)
    time.sleep(0.3)


def check_mode(vm, idle_us):
    """The host sees the wait that the parameter asks for."""
    works(vm)
    if MODES[idle_us]:
        wait_for(lambda: vm.query()["wait"] == MODES[idle_us], 20, f"wait {MODES[idle_us]}")


def back_within(vm, epoch, seconds):
    """There is another registration by then, but for what the machine was late."""
    with Late(vm.process.pid) as late:
        took = late.timed(wait_connected, vm, epoch)
    assert took < seconds, took


def reboot(command, status, reason):
    """Reboots in a way of the guest's, during a call."""
    vm = guest()
    epoch = vm.query()["epoch"]
    vm.qmp.take_events()
    ident = long_call(vm)
    vm.guest.sock.sendall(command)
    assert vm.qmp.recv(ident, timeout=20)["status"] == status
    vm.qmp.wait_event("RVMRPC_DISCONNECTED", match=lambda d: d["reason"] == reason)
    wait_connected(vm, epoch)
    vm.wait_ready()
    loaded(vm)
    works(vm)


@case("a guest that reboots: the driver leaves before, and registers after")
def reboots():
    """The call under way gets not-connected: the driver said goodbye."""
    reboot(b"reboot -f\n", "not-connected", "guest-exit")


def hold_thread(vm, seconds):
    """A procedure keeps the driver's server thread for that long; its caller is gone.

    It runs if the guest takes it before its deadline.
    """
    assert call(vm.qmp, "test", "sleep-inline", ms(seconds * 1000 + 2000), timeout=2000)[0] == "timed-out"


@case("a procedure that holds the server thread does not hold up a reboot", timeout=90)
def reboots_held():
    """The driver waits 2 s for it, says so, and goes down without a farewell."""
    with VM(**options()) as vm:
        loaded(vm)
        hold_thread(vm, 40)
        vm.qmp.take_events()
        start = time.monotonic()
        vm.guest.sock.sendall(b"reboot -f\n")
        vm.qmp.wait_event("RESET", timeout=60)
        took = time.monotonic() - start
        comment(f"{took:.1f} s")
        assert took < 15, took
        assert "a procedure holds the server thread" in vm.console()


@case("nor a suspend, which is refused; then it works, and so does the driver", timeout=90)
def suspends_held():
    """As long as the procedure runs the guest stays awake."""
    with VM(**options()) as vm:
        loaded(vm)
        epoch = vm.query()["epoch"]
        hold_thread(vm, 15)
        start = time.monotonic()
        assert vm.guest.run("echo mem > /sys/power/state")[0] != 0
        took = time.monotonic() - start
        comment(f"{took:.1f} s")
        assert took < 10, took
        wait_for(lambda: vm.query()["state"] == "connected", 30, "the end of the procedure")
        works(vm)
        assert vm.query()["epoch"] == epoch
        vm.guest.sock.sendall(b"echo mem > /sys/power/state\n")
        vm.qmp.wait_event("SUSPEND", timeout=20)
        vm.qmp.cmd("system_wakeup")
        wait_connected(vm, epoch)


@case("a procedure in a worker that outlasts the freezer: the kernel refuses to suspend, and names rvmrpc", timeout=90)
def outlasts_freezer():
    """It cannot be ended from outside; docs/guest-linux.md says so."""
    with VM(**options()) as vm:
        loaded(vm)
        vm.guest.check("dmesg -n 7; echo 1000 > /sys/power/pm_freeze_timeout; echo freezer > /sys/power/pm_test")
        assert call(vm.qmp, "test", "sleep", ms(10000), timeout=2000)[0] == "timed-out"
        assert vm.guest.run("echo mem > /sys/power/state")[0] != 0
        assert "workqueue rvmrpc" in vm.console(), vm.console()[-2000:]
        works(vm)
        wait_for(lambda: stats(vm)["late-replies"] == 1, 20, "the late answer")
        assert vm.guest.run("echo mem > /sys/power/state")[0] == 0
        works(vm)


@case("a guest that resets itself without a word: the call under way gets reset")
def resets_itself():
    """As by a triple fault."""
    reboot(b"echo b > /proc/sysrq-trigger\n", "reset", "guest-reset")


@case("system_reset with vmlp_idle_us=0", idle_us=0)
@case("system_reset with vmlp_idle_us=-1", idle_us=-1)
@case("system_reset with the default vmlp_idle_us", idle_us=50)
def resets(idle_us):
    """While the server waits in that mode, and a call is under way."""
    vm = guest()
    set_mode(vm, idle_us)
    epoch = vm.query()["epoch"]
    ident = long_call(vm)
    human(vm, "system_reset")
    reply = vm.qmp.recv(ident, timeout=20)
    assert reply["status"] == "reset", reply
    wait_connected(vm, epoch)
    vm.wait_ready()
    loaded(vm)


@case("savevm and loadvm with vmlp_idle_us=0", idle_us=0)
@case("savevm and loadvm with vmlp_idle_us=-1", idle_us=-1)
@case("savevm and loadvm with the default vmlp_idle_us", idle_us=50)
def loads(idle_us):
    """Into the running VM: the call under way gets reset, the driver is back in 2 s."""
    vm = guest()
    set_mode(vm, idle_us)
    epoch = vm.query()["epoch"]
    human(vm, "savevm mode")
    works(vm)
    assert vm.query()["epoch"] == epoch, "savevm ends no epoch"
    ident = long_call(vm)
    human(vm, "loadvm mode")
    assert vm.qmp.recv(ident, timeout=20)["status"] == "reset"
    back_within(vm, epoch, 2)
    event = vm.qmp.wait_event("RVMRPC_DISCONNECTED", match=lambda d: d["reason"] == "state-loaded")
    assert event
    vm.guest.sync()
    check_mode(vm, idle_us)


class Hammer:
    """Calls echo from a thread of its own, on a third monitor, until it is told to end.

    .longest of them, without what the machine was late.
    """

    def __init__(self, vm, path="qmp2.sock"):
        self.vm, self.path = vm, path
        self.counts = {}
        self.error = None
        self.longest = 0
        self.late = Late(vm.process.pid)
        self.end = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def _one(self, qmp, data):
        start = time.monotonic()
        try:
            status, answer = call(qmp, "echo", "echo", data, timeout=10000)
            assert answer == (data if status == "ok" else b""), (status, answer)
            self._count(status)
        except QMPError as error:
            self._count(error.kind)
        end = time.monotonic()
        if end - start > self.longest:
            self.longest = max(self.longest, end - start - self.late.between(start, end))

    def wait_more(self, what, more):
        """Until so many more have ended so."""
        goal = self.counts.get(what, 0) + more
        wait_for(lambda: self.error or self.counts.get(what, 0) >= goal, 20, f"{more} more: {what}")

    def _run(self):
        number = 0
        try:
            with QMP(self.vm.dir / self.path) as qmp:
                while not self.end.is_set():
                    number += 1
                    self._one(qmp, number.to_bytes(8, "little") * (number % 100))
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def __enter__(self):
        self.late.start()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join(30)
        self.late.stop()
        assert not self.thread.is_alive(), "the calls hang"
        comment(f"calls: {self.counts}, longest {self.longest:.3f} s")
        if self.error:
            raise self.error


@case("rmmod and insmod, 20 times, while calls run", timeout=120)
def reloads():
    """No hang; in between, calls succeed; every refusal has its right name."""
    with VM(**options()) as vm:
        with Hammer(vm) as hammer:
            for _ in range(20):
                vm.guest.check("rmmod rvmrpc", timeout=15)
                vm.guest.check(f"insmod /lib/rvmrpc/rvmrpc.ko allow=default,test.*; "
                               "sleep 0.1", timeout=15)
        assert set(hammer.counts) <= {"ok", "not-connected"}, hammer.counts
        assert hammer.counts["ok"] > 40 and hammer.counts["not-connected"] >= 1
        assert hammer.longest < 2
        info = vm.wait_state()
        assert info["stats"]["registrations"] == 21, info
        works(vm)


@case("a driver that comes and goes without end fills no monitor")
def comes_and_goes():
    """A few events in a row, then one state a second; the last tells how it is."""
    with VM(**options()) as vm:
        vm.qmp.take_events()
        before = vm.query()["stats"]["registrations"]
        start, came, took = time.monotonic(), 0, 0
        # Once is enough, but on a slow machine.
        while came <= 30 and took < 40:
            vm.guest.check("cd /sys/bus/pci/drivers/rvmrpc; d=$(echo 0000:*); end=$(($(date +%s) + 6)); "
                           "while [ $(date +%s) -lt $end ]; do echo $d > unbind; echo $d > bind; done",
                           timeout=30)
            wait_connected(vm, 0)
            took = time.monotonic() - start
            came = vm.query()["stats"]["registrations"] - before
        events = [e for e in vm.qmp.take_events() if e["event"].startswith("RVMRPC_")]
        comment(f"{came} registrations, {len(events)} events in {took:.1f} s")
        assert came > 30, came
        # Ten to begin with, then at each second an end and a beginning.
        assert len(events) <= 10 + 2 * took + 2, len(events)

        def last_is_told():
            events.extend(e for e in vm.qmp.take_events() if e["event"].startswith("RVMRPC_"))
            return (events[-1]["event"], events[-1]["data"].get("epoch")) == ("RVMRPC_CONNECTED", vm.query()["epoch"])
        wait_for(last_is_told, 10, "the last event", interval=0.5)


@case("rmmod while a call sleeps in a worker waits for it, and no longer")
def rmmod_waits():
    """The host hears at once that the driver leaves."""
    vm = guest()
    epoch = vm.query()["epoch"]
    before = counters(vm)["workers"]
    ident = vm.qmp.send("guest-kernel-call", call_args("procfs", "read", b"/proc/meminfo", 5000))
    assert vm.qmp.recv(ident)["status"] == "ok" and counters(vm)["workers"] == before + 1
    vm.guest.check("rmmod rvmrpc_test_mod; rmmod rvmrpc")
    assert call(vm.qmp, "echo", "echo")[0] == "not-connected"
    vm.guest.check("insmod /lib/rvmrpc/rvmrpc.ko allow=default,test.*")
    wait_connected(vm, epoch)
    loaded(vm)


@case("device_del and device_add, 5 times, while calls run", timeout=120)
def replugs():
    """Without the device: DeviceNotActive; with it again: connected by itself."""
    with VM(**options()) as vm:
        with Hammer(vm) as hammer:
            for _ in range(5):
                hammer.wait_more("ok", 5)
                vm.qmp.cmd("device_del", id="rvmrpc0")
                vm.qmp.wait_event("DEVICE_DELETED", timeout=20,
                                  match=lambda d: d.get("device") == "rvmrpc0")
                assert vm.query() == {"state": "absent"}
                hammer.wait_more("DeviceNotActive", 2)
                vm.qmp.cmd("device_add", driver="rvmrpc", id="rvmrpc0")
                vm.wait_state(timeout=20)
        assert hammer.counts["ok"] > 20 and hammer.counts["DeviceNotActive"] > 5, hammer.counts
        assert set(hammer.counts) <= {"ok", "not-connected", "DeviceNotActive", "cancelled",
                                      "reset"}, hammer.counts
        assert hammer.longest < 3
        works(vm)


def migrate(source, idle_us):
    """Migrates to a new QEMU during a call; checks both sides; the new VM."""
    set_mode(source, idle_us)
    loaded(source)
    target = VM(**options(incoming="unix:migration.sock")).start()
    epoch = source.query()["epoch"]
    source.qmp2.cmd("migrate-set-parameters", {"max-bandwidth": 1 << 20})
    source.qmp2.cmd("migrate", uri=f"unix:{target.dir}/migration.sock")
    wait_for(lambda: source.qmp2.cmd("query-migrate").get("status") == "active", 20, "pre-copy")
    for i in range(20):
        assert call(source.qmp, "echo", "echo", bytes([i])) == ("ok", bytes([i]))
    assert source.qmp2.cmd("query-migrate")["status"] == "active", "not during pre-copy"
    ident = long_call(source)
    human(source, "migrate_set_parameter max-bandwidth 1G")
    reply = source.qmp.recv(ident, timeout=30)
    assert reply["status"] == "reset", reply
    wait_for(lambda: source.qmp2.cmd("query-migrate")["status"] == "completed", 20, "migration")
    assert source.query()["state"] == "disconnected"
    assert call(source.qmp, "echo", "echo")[0] == "stopped"
    back_within(target, epoch, 3)
    target.guest.sync()
    check_mode(target, idle_us)
    source.stop()
    return target


@case("live migration to a second QEMU in every wait mode", timeout=90)
def migrates():
    """From one to the next: calls go on during pre-copy, those at the switch get reset."""
    vm = loaded(VM(**options()).boot())
    for idle_us in MODES:
        vm = migrate(vm, idle_us)
        comment(f"vmlp_idle_us={idle_us}: migrated")
    assert call(vm.qmp, "sysinfo", "meminfo")[0] == "ok"


def saved(vm, capability=False):
    """Migrates the VM to a file."""
    vm.qmp2.cmd("migrate-set-capabilities",
                capabilities=[{"capability": "background-snapshot", "state": capability}])
    vm.qmp2.cmd("migrate", uri=f"file:{vm.dir}/state")
    wait_for(lambda: vm.qmp2.cmd("query-migrate")["status"] == "completed", 30, "migration")


@case("with vmlp_idle_us=-1 an idle guest waits in the host, with the slowest clock too")
def alone():
    """What the driver does by itself keeps its server from no wait: it slept 50 times a second instead, for ever."""
    made = options()
    made["append"] = f"{made.get('append', '')} tsc=unstable clocksource=hpet"
    with VM(**made) as vm:
        set_mode(vm, 0)
        set_mode(vm, -1)
        before = counters(vm)
        time.sleep(4)
        grown = {key: value - before[key] for key, value in counters(vm).items()}
        comment(f"in 4 s: {grown['sleeps']} sleeps, {grown['waits']} waits")
        assert grown["waits"] > grown["sleeps"] and grown["sleeps"] < 100, grown


@case("a background snapshot takes the channel from nobody")
def background_snapshot():
    """The VM goes on, and so does a call under way."""
    with VM(**options()) as vm:
        loaded(vm)
        before = vm.query()
        vm.qmp.take_events()
        ident = vm.qmp.send("guest-kernel-call", call_args("test", "sleep", ms(3000), 20000))
        saved(vm, capability=True)
        assert vm.qmp2.cmd("query-status")["status"] == "running"
        assert vm.qmp.recv(ident, timeout=20)["status"] == "ok"
        works(vm)
        assert vm.query()["epoch"] == before["epoch"]


@case("migrate and cont: the source has its channel again at once")
def migrate_and_cont():
    """In the mode in which the guest sleeps longest."""
    with VM(**options()) as vm:
        loaded(vm)
        set_mode(vm, 0)
        epoch = vm.query()["epoch"]
        saved(vm)
        assert vm.qmp2.cmd("query-status")["status"] == "postmigrate"
        vm.qmp2.cmd("cont")
        back_within(vm, epoch, 1)
        works(vm)


@case("suspend to RAM and wake up")
def suspends():
    """The driver leaves before, and registers after."""
    vm = guest()
    epoch = vm.query()["epoch"]
    vm.guest.sock.sendall(b"echo mem > /sys/power/state\n")
    vm.qmp.wait_event("SUSPEND", timeout=20)
    reply = vm.qmp.cmd("guest-kernel-call", call_args("echo", "echo"))
    assert reply["status"] == "stopped" and "'system_wakeup'" in reply["reason"], reply
    vm.qmp.cmd("system_wakeup")
    wait_connected(vm, epoch)
    vm.guest.sync()
    works(vm)


if __name__ == "__main__":
    main()
