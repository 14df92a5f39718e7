#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Every way in which a call can fail has its own answer, and the next call works."""
import os
import tempfile
import time

from harness import (VM, QMPError, Timeout, balloon_window, call, call_args, case, comment, counters, driver_file,
                     insmod, least_seconds, main, ms, set_parameter, shared, stats, wait_connected, wait_for)
from harness.patient import CHANGES, TELLS
from harness.sock import STATUS, SocketClient

TEST, TEST_SLEEP = 0x101, 1
AT_ONCE = 2     # calls of one client of the socket that are in the channel

COMMANDS = {
    "guest-meminfo": {}, "guest-loadavg": {}, "guest-cpuinfo": {}, "guest-cpustat": {},
    "guest-osinfo": {}, "guest-drop-caches": {"mode": "all"},
    "guest-kernel-call": {"module": "echo", "procedure": "echo"}, **TELLS, **CHANGES}
TYPED = {name: args for name, args in COMMANDS.items() if name != "guest-kernel-call"}


def guest():
    """A guest that serves module "test"."""
    vm = shared(append="rvmrpc.allow=default,test.*")
    if vm.guest.run("test -d /sys/module/rvmrpc_test_mod")[0]:
        insmod(vm, "rvmrpc_test_mod")
    return vm


def works(vm):
    """The channel is as good as new."""
    assert call(vm.qmp, "echo", "echo", b"still there", timeout=5000) == ("ok", b"still there")


def works_again(vm):
    """It is, or will be soon: its guest may find out, and say hello, after the first call."""
    wait_for(lambda: call(vm.qmp, "echo", "echo", b"back", timeout=2000) == ("ok", b"back"), 10, "the channel")


def error_of(qmp, name, arguments):
    """The error that a command must end with."""
    try:
        answer = qmp.cmd(name, arguments)
    except QMPError as error:
        return error
    raise AssertionError(f"{name} answered {answer}")


@case("no device: every command says DeviceNotActive, query-rvmrpc says absent")
def no_device():
    """And the machine is otherwise well."""
    with VM(kernel=None, device=False, extra=["-S"]).start() as vm:
        for name, args in COMMANDS.items():
            error = error_of(vm.qmp, name, args)
            assert error.kind == "DeviceNotActive", error
        assert vm.query() == {"state": "absent"}
        assert vm.qmp.hmp("info rvmrpc").strip() == "state: absent"


@case("a VM that was not started: stopped, and the reason says cont")
def not_started():
    """No driver is missing before the first instruction."""
    with VM(extra=["-S"]).start() as vm:
        reply = vm.qmp.cmd("guest-kernel-call", call_args("echo", "echo", b"x", 30000))
        assert reply["status"] == "stopped" and "'cont'" in reply["reason"], reply
        for name, args in TYPED.items():
            error = error_of(vm.qmp, name, args)
            assert error.desc.startswith("stopped") and "'cont'" in error.desc, error
        vm.qmp.cmd("cont")
        vm.wait_state()


@case("a guest that never loads the driver: not-connected, at once")
def no_driver():
    """With the device; and after the driver was loaded, all is well."""
    with VM(append="rvmrpc.load=0") as vm:
        rounds = []

        def ask():
            rounds.append(1)
            assert call(vm.qmp, "echo", "echo", b"x", timeout=30000)[0] == "not-connected"
            for name, args in TYPED.items():
                error = error_of(vm.qmp, name, args)
                assert error.kind == "GenericError" and error.desc.startswith("not-connected"), error
        assert least_seconds(ask, 2) < 2
        info = vm.query()
        assert info["state"] == "disconnected"
        # guest-pressure makes three calls.
        assert info["stats"]["refused"] == len(rounds) * (1 + len(TYPED) + 2)
        insmod(vm, "rvmrpc")
        vm.wait_state()
        works(vm)


@case("wrong module, by name and by number")
def wrong_module():
    """Never anything but module-unavailable."""
    vm = guest()
    for module in ("nonsense", "", "ECHO", 99, 0xffffffff):
        assert call(vm.qmp, module, 0, b"x") == ("module-unavailable", b""), module
    works(vm)


@case("wrong procedure, by name and by number")
def wrong_procedure():
    """Of modules that are there."""
    vm = guest()
    for module, procedure in (("echo", 1), ("echo", "nonsense"), (2, 99), ("core", 0xffffffff)):
        assert call(vm.qmp, module, procedure) == ("procedure-unavailable", b"")
    works(vm)


@case("a module or procedure that is neither name nor number is a GenericError")
def wrong_selector():
    """Before the guest is asked."""
    vm = guest()
    calls = stats(vm)["calls"]
    for bad in (-1, 1 << 32, 1.5, True, None, {}, []):
        for args in ({"module": bad, "procedure": 0}, {"module": 1, "procedure": bad}):
            assert error_of(vm.qmp, "guest-kernel-call", args).kind == "GenericError", args
    assert stats(vm)["calls"] == calls
    works(vm)


@case("a procedure that is not allowed: not-allowed, and it does not run")
def not_allowed():
    """core.exit is not, by default; nor is what allow= takes away."""
    vm = guest()
    assert call(vm.qmp, "core", "exit") == ("not-allowed", b"")
    assert vm.query()["state"] == "connected"
    set_parameter(vm, "allow", "default,test.*,-sysinfo.meminfo,-reclaim.*")
    try:
        error = error_of(vm.qmp, "guest-meminfo", {})
        assert error.desc.startswith("not-allowed"), error
        assert error_of(vm.qmp, "guest-drop-caches", {"mode": "all"}).desc.startswith("not-allowed")
        assert "threads" in vm.qmp.cmd("guest-loadavg")
    finally:
        set_parameter(vm, "allow", "default,test.*")
    vm.qmp.cmd("guest-meminfo")
    works(vm)


@case("arguments of a wrong size: garbage-args")
def garbage():
    """Too short, too long; the procedure does not run."""
    vm = guest()
    for data in (b"", b"123", b"12345"):
        assert call(vm.qmp, "test", "sleep", data) == ("garbage-args", b""), data
    assert call(vm.qmp, "reclaim", "drop_caches", b"\x07" + b"\0" * 7)[0] == "garbage-args"
    assert call(vm.qmp, "sysinfo", "meminfo", b"\xff" * 8)[0] == "garbage-args"
    works(vm)


@case("invalid base64 is a GenericError")
def base64():
    """Before the guest is asked."""
    vm = guest()
    for data in ("*", "A", "AAA", "AA=A", "QR==", "\u00e9", "QQ==\n"):
        args = {"module": "echo", "procedure": "echo", "data": data}
        assert error_of(vm.qmp, "guest-kernel-call", args).kind == "GenericError", data
    works(vm)


@case("a timeout out of range is a GenericError")
def bad_timeout():
    """0 and more than 60 s, for every command."""
    vm = guest()
    for name, args in COMMANDS.items():
        for timeout in (0, 60001, -1):
            error = error_of(vm.qmp, name, {**args, "timeout": timeout})
            assert error.kind == "GenericError", (name, timeout)
    works(vm)


@case("an answer that does not fit, and one that claims more than it has room for")
def big_answers():
    """Up to the last byte of the response pages."""
    vm = guest()
    room = 16 * 4096
    expected = bytes(i % 251 for i in range(room))
    assert call(vm.qmp, "test", "big", ms(room)) == ("ok", expected)
    assert call(vm.qmp, "test", "big", ms(room + 1)) == ("too-big", b"")
    status, data = call(vm.qmp, "test", "overrun")
    assert status in ("too-big", "system-error") and data == b""
    works(vm)


@case("a status that the procedure returns is the call's, unless a guest may not send it")
def statuses():
    """errno and the host's own statuses become system-error."""
    vm = guest()
    for number, name in ((0, "ok"), (4, "garbage-args"), (5, "too-big"), (7, "busy"),
                         (8, "system-error"), (10, "system-error"), (12, "system-error"),
                         (13, "system-error"), (14, "system-error"), (0xfffffff4, "system-error")):
        assert call(vm.qmp, "test", "fail", ms(number))[0] == name, number
    works(vm)


def check_late(procedure, vm, sleep):
    """Past the deadline: timed-out in time, then the late answer is counted. The counters before.

    Once in time is enough: other work of the machine may make it later, and it is asked after the late answer only.
    """
    for _ in range(5):
        before = stats(vm)
        start = time.monotonic()
        status, data = call(vm.qmp, "test", procedure, ms(sleep), timeout=500)
        took = time.monotonic() - start
        assert (status, data) == ("timed-out", b"") and 0.5 <= took, (status, took)
        if took < 0.7:
            return before
        wait_for(lambda late=before["late-replies"]: stats(vm)["late-replies"] > late, 20, "late answer")
    raise AssertionError(f"{took:.3f} s")


@case("a worker's procedure past its deadline: timed-out within 200 ms, others go on")
def late_worker():
    """The state stays connected, the late answer is dropped and counted."""
    vm = guest()
    before = check_late("sleep", vm, 4000)
    assert least_seconds(lambda: works(vm), 0.5) < 0.5
    wait_for(lambda: stats(vm)["late-replies"] == before["late-replies"] + 1, 20, "late answer")
    after = stats(vm)
    assert after["timed-out"] == before["timed-out"] + 1
    assert after["bad-replies"] == before["bad-replies"]
    works(vm)


@case("a procedure that holds up the server thread: timed-out, silent, then connected again")
def late_inline():
    """query-rvmrpc says that the guest does not answer."""
    vm = guest()
    for left in (2, 1, 0):
        before = check_late("sleep-inline", vm, 7000)
        try:
            wait_for(lambda: vm.query()["state"] == "silent", 5, "silence", interval=0.05)
            break
        except Timeout:
            assert left, "it is never silent"
            comment("the guest saw the request after its deadline, and did not run it")
    assert call(vm.qmp, "echo", "echo", b"x", timeout=100)[0] == "timed-out"
    wait_for(lambda: stats(vm)["late-replies"] > before["late-replies"], 20, "late answer")
    works(vm)
    assert vm.query()["state"] == "connected"


def runs(vm, procedure):
    """How often test.count ran, this one included."""
    status, data = call(vm.qmp, "test", procedure, timeout=5000)
    assert status == "ok", status
    return int.from_bytes(data, "little")


@case("a request that the server thread finds after its deadline does not run")
def late_request():
    """What held the thread up was another procedure; its caller was told timed-out long ago."""
    vm = guest()
    before = runs(vm, "count")
    slow = vm.qmp2.send("guest-kernel-call", call_args("test", "sleep-inline", ms(5000), 20000))
    time.sleep(0.3)
    assert call(vm.qmp, "test", "count", timeout=300) == ("timed-out", b"")
    assert vm.qmp2.recv(slow)["status"] == "ok"
    assert runs(vm, "count") == before + 1


@case("a call that waited for its worker past its deadline does not run")
def late_work():
    """As while a guest goes to sleep: its work queues are frozen, the server thread is not."""
    vm = guest()
    before = runs(vm, "count-sleep")
    freezes = vm.guest.start("dmesg -n 7; echo 10 > /sys/module/suspend/parameters/pm_test_delay; "
                             "echo freezer > /sys/power/pm_test; echo mem > /sys/power/state; "
                             "echo none > /sys/power/pm_test; echo 5 > /sys/module/suspend/parameters/pm_test_delay; "
                             "dmesg -n 5", 60)
    # All that it freezes is frozen then.
    wait_for(lambda: "Waiting for 10 second" in vm.console(), 30, "the freezer")
    assert call(vm.qmp, "test", "count-sleep", timeout=500) == ("timed-out", b"")
    vm.guest.finish(freezes)
    wait_for(lambda: stats(vm)["in-flight"] == 0, 10, "the late answer")
    assert runs(vm, "count-sleep") == before + 1


def timed_out(vm):
    """How long a procedure that sleeps is waited for by default."""
    assert call(vm.qmp, "test", 1, ms(6000))[0] == "timed-out"


@case("the default timeout is the device's")
def default_timeout():
    """default-timeout=300, and 1 s without."""
    for opts, seconds in (("", 1), ("default-timeout=300", 0.3)):
        with VM(append="rvmrpc.allow=default,test.*", device_opts=opts, patient=False) as vm:
            insmod(vm, "rvmrpc_test_mod")
            # Then the name is known, and costs no time.
            assert call(vm.qmp, "test", "xid", timeout=10000)[0] == "ok"
            # As often as there are workers for it.
            took = least_seconds(lambda vm=vm: timed_out(vm), seconds + 0.2, 3)
            assert seconds <= took < seconds + 0.2, (opts, took)


def hold_worker(vm):
    """A call whose caller gave it up, and that holds a worker: one whose worker begins after its deadline does not run."""
    assert call(vm.qmp, "test", "sleep", ms(14000), timeout=2000)[0] == "timed-out"


@case("all workers held by procedures that sleep: busy, others go on, and the driver recovers")
def stuck():
    """By saying hello again with fresh workers, watchdog_ms after the last deadline; a slot is kept for the rest."""
    vm = guest()
    works(vm)
    vm.qmp.take_events()
    epoch, watchdog = vm.query()["epoch"], counters(vm)["watchdog"]
    set_parameter(vm, "watchdog_ms", -1)
    for _ in range(3):
        hold_worker(vm)
    held = time.monotonic()

    def others():
        assert call(vm.qmp, "test", "sleep", ms(12000), timeout=5000)[0] == "busy"
        assert call(vm.qmp, "echo", "echo", b"x") == ("ok", b"x")
    assert least_seconds(others, 0.2) < 0.2
    set_parameter(vm, "watchdog_ms", 2000)
    wait_connected(vm, epoch, timeout=10)
    works(vm)
    assert counters(vm)["watchdog"] == watchdog + 1
    bad = stats(vm)["bad-replies"]
    left = held + 14 - time.monotonic()
    vm.guest.check(f"sleep {max(1, int(left))}", timeout=30)
    works(vm)
    after = stats(vm)
    assert after["bad-replies"] == bad and after["in-flight"] == 0
    wait_for(lambda: driver_file(vm, "abandoned") == "0", 10, "the end of those that were left behind")


def hang(vm, count):
    """Calls that hold a worker each, and that their callers gave up; how many of them got none.

    One whose worker begins after its deadline does not run, and holds none: all have seconds for that, at once.
    """
    # QEMU has the list of modules then: the first slots, which have workers when others have not, are free.
    works(vm)
    wait_for(lambda: stats(vm)["in-flight"] == 0, 10, "free slots")
    statuses = []
    clients = [SocketClient(vm.dir / "rpc.sock") for _ in range((count + AT_ONCE - 1) // AT_ONCE)]
    for i in range(count):
        clients[i // AT_ONCE].submit(TEST, TEST_SLEEP, ms(120000), 4000)
    for i in range(count):
        statuses.append(STATUS[clients[i // AT_ONCE].recv().status])
    for client in clients:
        client.close()
    assert set(statuses) <= {"busy", "timed-out"}, statuses
    return statuses.count("busy")


@case("what hanging procedures take is bounded, however often the driver is unbound and bound", timeout=120)
def hanging():
    """64 in all, counted; then what may sleep is busy, and the rest goes on."""
    with VM(append="rvmrpc.allow=default,test.* rvmrpc.watchdog_ms=-1", device_opts="slots=64,socket=rpc.sock") as vm:
        insmod(vm, "rvmrpc_test_mod")
        assert hang(vm, 40) == 0
        for left in (40, 64, 64):
            epoch = vm.query()["epoch"]
            vm.guest.check("cd /sys/bus/pci/drivers/rvmrpc; d=$(echo 0000:*); echo $d > unbind; echo $d > bind")
            wait_connected(vm, epoch)
            assert driver_file(vm, "abandoned") == str(left), (driver_file(vm, "abandoned"), left)
            busy = hang(vm, 40)
            assert busy == (16 if left == 40 else 40), (left, busy)
            works(vm)


def throttle(vm, bps):
    """The disk's speed; 0 is its own."""
    limits = {"bps": bps, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0}
    vm.qmp2.cmd("block_set_io_throttle", {"device": "drive0", **limits})


@case("a disk that hangs: drop-caches says busy, and all else answers", timeout=120)
def hung_disk():
    """Slow procedures leave a slot to quick ones, and one sync is enough."""
    with tempfile.TemporaryFile() as disk:
        disk.truncate(1 << 30)
        with VM(extra=["-drive", f"if=none,id=drive0,format=raw,file=/proc/{os.getpid()}/fd/{disk.fileno()}",
                       "-device", "virtio-blk-pci,drive=drive0"]) as vm:
            throttle(vm, 1)
            vm.guest.check("(exec 3>/dev/vda; dd if=/dev/zero bs=1M count=30 >&3 2>/dev/null; "
                           "sleep 1000) >/dev/null 2>&1 & sleep 1")
            errors = []
            for i in range(16):
                # It holds a worker if that begins in time; the others are told at once.
                errors.append(error_of(vm.qmp, "guest-drop-caches",
                                       {"mode": "all", "sync": True, "timeout": 3000}).desc.split(":")[0])
                assert least_seconds(lambda: vm.qmp.cmd("guest-meminfo"), 1) < 1
                if i % 4 == 3:
                    time.sleep(3.5)
            assert errors == ["timed-out"] + 15 * ["busy"], errors
            assert vm.query()["state"] == "connected"
            works(vm)
            throttle(vm, 0)
            wait_for(lambda: call(vm.qmp, "reclaim", "drop_caches", ms(3) + ms(1), 5000)[0] == "ok", 60,
                     "the disk")


@case("a VM that is stopped: stopped, at once; after cont all is well")
def stopped():
    """Also a call that was under way when it stopped keeps to its deadline."""
    vm = guest()
    vm.qmp.cmd("stop")
    try:
        def ask():
            assert call(vm.qmp, "echo", "echo", b"x", timeout=30000) == ("stopped", b"")
            for name, args in TYPED.items():
                assert error_of(vm.qmp, name, args).desc.startswith("stopped"), name
        assert least_seconds(ask, 1) < 1
        assert vm.query()["state"] == "connected"
    finally:
        vm.qmp.cmd("cont")
    works(vm)


@case("a module that goes away: module-unavailable; one that comes is found by name")
def module_leaves():
    """The list of modules follows."""
    vm = guest()
    vm.guest.check("rmmod rvmrpc_test_mod")
    assert call(vm.qmp, 0x101, 2, ms(1))[0] == "module-unavailable"
    assert call(vm.qmp, "test", "big", ms(1))[0] == "module-unavailable"
    insmod(vm, "rvmrpc_test_mod")
    assert call(vm.qmp, "test", "big", ms(3)) == ("ok", b"\0\1\2")
    works(vm)


@case("a module of another name with the same number does not get its calls")
def module_replaced():
    """What a name meant belongs to the list that told it."""
    vm = guest()
    set_parameter(vm, "allow", "default,test.*,other.*")
    assert call(vm.qmp, "test", "big", ms(3)) == ("ok", b"\0\1\2")
    vm.guest.check("rmmod rvmrpc_test_mod")
    vm.guest.check("insmod /lib/rvmrpc/rvmrpc_test_mod.ko name=other")
    assert call(vm.qmp, "test", "big", ms(3))[0] == "module-unavailable"
    assert call(vm.qmp, "other", "big", ms(3)) == ("ok", b"\0\1\2")
    assert call(vm.qmp, 0x101, "big", ms(3)) == ("ok", b"\0\1\2")
    # The allow-list changes the list, too: the call finds its name anew.
    set_parameter(vm, "allow", "default,other.*,test.*")
    assert call(vm.qmp, "other", "big", ms(3)) == ("ok", b"\0\1\2")
    vm.guest.check("rmmod rvmrpc_test_mod")
    insmod(vm, "rvmrpc_test_mod")
    assert call(vm.qmp, "test", "big", ms(3)) == ("ok", b"\0\1\2")
    works(vm)


@case("rmmod of a module whose procedure runs says busy")
def module_busy():
    """It is held while it is called."""
    vm = guest()
    before = counters(vm)["workers"]
    call_id = vm.qmp.send("guest-kernel-call", call_args("test", "sleep", ms(4000), 15000))
    wait_for(lambda: counters(vm)["workers"] > before, 10, "worker")
    status, text = vm.guest.run("rmmod rvmrpc_test_mod")
    assert status != 0 and "busy" in text.lower() or "unavailable" in text.lower(), text
    assert vm.qmp.recv(call_id)["status"] == "ok"
    works(vm)


@case("a guest that balloons its window: the call under way gets reset, and it is served again", timeout=120)
def balloons():
    """All of it, then page by page: the host's, the guest's, the slots of both."""
    with VM(append="rvmrpc.allow=default,test.*", extra=["-device", "virtio-balloon-pci"]) as vm:
        insmod(vm, "rvmrpc_test_mod")
        epoch = vm.query()["epoch"]
        call_id = vm.qmp.send("guest-kernel-call", call_args("test", "sleep", ms(15000), 20000))
        wait_for(lambda: counters(vm)["workers"] > 0, 5, "worker")
        start = time.monotonic()
        balloon_window(vm)
        assert vm.qmp.recv(call_id)["status"] == "reset"
        vm.qmp.wait_event("RVMRPC_DISCONNECTED", match=lambda d: d["reason"] == "overwritten")
        wait_connected(vm, epoch, timeout=10)
        works_again(vm)
        assert time.monotonic() - start < 10
        for page in range(4):
            balloon_window(vm, page, 1)
            works_again(vm)
        assert stats(vm)["lost"] >= 3, "QEMU saw nothing of it"


@case("a module whose init fails while the host calls it: it is not called before, and the guest goes on")
def init_fails():
    """Its text is freed whoever holds it."""
    with VM(append="rvmrpc.allow=default,test.*") as vm:
        loads = vm.guest.start("insmod /lib/rvmrpc/rvmrpc_test_mod.ko fail_ms=3000")
        wait_for(lambda: "rvmrpc_test_mod: registered" in vm.console(), 30, "the registration")
        status = call(vm.qmp, 0x101, 1, ms(6000), timeout=4000)[0]
        assert vm.guest.finish(loads)[0] != 0
        time.sleep(4)
        works(vm)
        assert status == "module-unavailable", status
        insmod(vm, "rvmrpc_test_mod")
        assert call(vm.qmp, "test", "xid")[0] == "ok"


@case("a module that unregisters under a call: no new ones, and it waits for that one")
def leaves_under_call():
    """Nobody else can take it out."""
    with VM(append="rvmrpc.allow=default,test.*") as vm:
        insmod(vm, "rvmrpc_test_mod")
        status, text = vm.guest.run("cp /lib/rvmrpc/rvmrpc_echo_example.ko /tmp; insmod /tmp/rvmrpc_echo_example.ko; "
                                    "rmmod rvmrpc_test_mod; insmod /lib/rvmrpc/rvmrpc_test_mod.ko steal=256")
        assert status != 0 and "not permitted" in text, text
        insmod(vm, "rvmrpc_test_mod")
        slow = vm.qmp2.send("guest-kernel-call", call_args("test", "sleep", ms(7000), 20000))
        wait_for(lambda: counters(vm)["workers"] > 0, 10, "worker")
        leaves = vm.guest.start("echo 1 > /sys/module/rvmrpc_test_mod/parameters/leave")
        wait_for(lambda: call(vm.qmp, "test", "xid")[0] == "module-unavailable", 5, "the end of new calls")
        assert slow not in vm.qmp2.pending(), "the call that it waits for had ended"
        assert vm.qmp2.recv(slow)["status"] == "ok"
        assert vm.guest.finish(leaves) == (0, "")
        vm.guest.check("rmmod rvmrpc_test_mod")
        works(vm)


@case("core.exit, when allowed, ends the server; binding the driver anew brings it back")
def core_exit():
    """The guest says goodbye by itself, and stays away when it has slept."""
    vm = guest()
    set_parameter(vm, "allow", "default,test.*,core.exit")
    vm.qmp.take_events()
    epoch = vm.query()["epoch"]
    assert call(vm.qmp, "core", "exit")[0] == "ok"
    vm.qmp.wait_event("RVMRPC_DISCONNECTED", match=lambda d: d["reason"] == "guest-exit")
    assert call(vm.qmp, "echo", "echo")[0] == "not-connected"
    # Nor does a suspend bring it back.
    vm.guest.check("echo devices > /sys/power/pm_test; echo mem > /sys/power/state; echo none > /sys/power/pm_test", 60)
    assert driver_file(vm, "state") == "left"
    vm.guest.check("cd /sys/bus/pci/drivers/rvmrpc; d=$(echo 0000:*); echo $d > unbind; "
                   "echo $d > bind")
    wait_connected(vm, epoch)
    works(vm)


if __name__ == "__main__":
    main()
