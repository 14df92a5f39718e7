#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""No command that controls the VM waits for a guest.

A call sleeps for 10 s in the guest; the command comes on the second monitor.
Cancelled calls keep their slots until the procedure ends, hence many slots.
"""
import contextlib
import pathlib
import signal
import subprocess
import tempfile
import time

from harness import (QMP, VM, QMPError, call, call_args, case, comment, counters, insmod, main, ms, shared,
                     wait_for)
from harness.paths import QEMU_IMG

LIMIT = 0.2
FOLDER = tempfile.TemporaryDirectory(prefix="rvmrpc-disk-")


def options(name):
    """Of a guest with a disk for snapshots."""
    path = pathlib.Path(FOLDER.name, name + ".qcow2")
    if not path.exists():
        subprocess.run([QEMU_IMG, "create", "-q", "-f", "qcow2", path, "64M"], check=True)
    return {"append": "rvmrpc.allow=default,test.* rvmrpc.slots=32", "memory": "192M",
            "device_opts": "slots=32",
            "extra": ["-qmp", "unix:qmp3.sock,server=on,wait=off", "-blockdev", f"driver=file,filename={path},node-name=file0",
                      "-blockdev", "driver=qcow2,file=file0,node-name=disk0",
                      "-device", "virtio-blk-pci,drive=disk0"]}


def loaded(vm):
    """Module "test" is there, the channel works, both monitors are connected."""
    vm.qmp2.cmd("query-name")
    if vm.guest.run("test -d /sys/module/rvmrpc_test_mod")[0]:
        insmod(vm, "rvmrpc_test_mod")
    assert call(vm.qmp, "test", "xid", timeout=5000)[0] == "ok"
    return vm


def guest():
    """The guest that most cases share."""
    return loaded(shared(**options("shared")))


def long_call(vm):
    """Sends a call of 10 s, and returns when it runs in the guest."""
    before = counters(vm)["workers"]
    ident = vm.qmp.send("guest-kernel-call", call_args("test", "sleep", ms(10000), 20000))
    wait_for(lambda: counters(vm)["workers"] == before + 1, 5, "the call in the guest")
    return ident


def assert_gave_way(vm, ident, name):
    """The call was cut short by that command."""
    reply = vm.qmp.recv(ident, timeout=5)
    assert reply["status"] == "cancelled" and reply["data"] == "", reply
    assert reply["reason"] == f"gave way to {name}", reply


@contextlib.contextmanager
def gives_way(vm, name, limit=LIMIT):
    """What runs inside must end in time, and the call must have given way to it."""
    ident = long_call(vm)
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    comment(f"{name}: {took * 1000:.1f} ms")
    assert_gave_way(vm, ident, name)
    assert took < limit, f"{name} took {took:.3f} s"


def works(vm):
    """What comes after is as ever."""
    assert call(vm.qmp, "echo", "echo", b"x", timeout=5000) == ("ok", b"x")


@case("without a control command a call takes its time")
def undisturbed():
    """Else the other cases would show nothing."""
    vm = guest()
    start = time.monotonic()
    assert call(vm.qmp, "test", "sleep", ms(2000), 20000) == ("ok", b"")
    assert time.monotonic() - start > 1.9


@case("stop and cont return in under 200 ms")
def stop_cont():
    """Each during a call of its own."""
    vm = guest()
    with gives_way(vm, "stop"):
        vm.qmp2.cmd("stop")
    assert vm.qmp2.cmd("query-status")["status"] == "paused"
    vm.qmp2.cmd("cont")
    with gives_way(vm, "cont"):
        vm.qmp2.cmd("cont")
    works(vm)


@case("the same by way of human-monitor-command")
def hmp_stop():
    """HMP's commands control the VM too."""
    vm = guest()
    with gives_way(vm, "stop"):
        vm.qmp2.hmp("stop")
    vm.qmp2.hmp("cont")
    works(vm)


@case("behind two calls, from both monitors")
def queued():
    """A control command that is queued already ends a call as it begins."""
    vm = guest()
    third = QMP(vm.dir / "qmp3.sock")
    first = long_call(vm)
    second = third.send("guest-kernel-call", call_args("test", "sleep", ms(10000), 20000))
    start = time.monotonic()
    vm.qmp2.cmd("stop")
    assert time.monotonic() - start < LIMIT
    assert_gave_way(vm, first, "stop")
    # Behind stop it finds the VM stopped; before it, it gives way.
    reply = third.recv(second, timeout=5)
    assert (reply["status"] == "stopped" or
            (reply["status"], reply["reason"]) == ("cancelled", "gave way to stop")), reply
    vm.qmp2.cmd("cont")
    third.close()
    works(vm)


@case("a command that does not control the VM does not cut a call short")
def others_wait():
    """query-status waits its turn; the call ends well."""
    vm = guest()
    before = counters(vm)["workers"]
    ident = vm.qmp.send("guest-kernel-call", call_args("test", "sleep", ms(600), 5000))
    wait_for(lambda: counters(vm)["workers"] == before + 1, 5, "the call in the guest")
    assert vm.qmp2.cmd("query-status")["running"]
    assert vm.qmp.recv(ident)["status"] == "ok"


@case("a typed command gives way with an error that says so")
def typed():
    """guest-meminfo while the server thread is held up."""
    vm = guest()
    vm.qmp.cmd("guest-kernel-call", call_args("test", "sleep-inline", ms(3000), 1))
    ident = vm.qmp.send("guest-meminfo", timeout=20000)
    time.sleep(0.1)
    start = time.monotonic()
    vm.qmp2.cmd("stop")
    assert time.monotonic() - start < LIMIT
    vm.qmp2.cmd("cont")
    try:
        raise AssertionError(vm.qmp.recv(ident))
    except QMPError as error:
        assert error.desc == "cancelled: gave way to stop", error
    works(vm)


@case("device_add and device_del return in under 200 ms")
def hotplug():
    """Of a device that has nothing to do with us."""
    vm = guest()
    vm.guest.check("modprobe virtio_balloon")
    with gives_way(vm, "device_add"):
        vm.qmp2.cmd("device_add", driver="virtio-balloon-pci", id="balloon")
    with gives_way(vm, "device_del"):
        vm.qmp2.cmd("device_del", id="balloon")
    vm.qmp2.wait_event("DEVICE_DELETED", timeout=30, match=lambda d: d.get("device") == "balloon")
    works(vm)


@case("savevm and loadvm: the call gives way in under 200 ms, and costs them no more than that")
def savevm():
    """They take time of their own, to write and read the state: it is compared."""
    vm = guest()

    def plain(line):
        start = time.monotonic()
        answer = vm.qmp2.hmp(line)
        assert answer.strip() == "", answer
        return time.monotonic() - start

    def during(line):
        ident = long_call(vm)
        request = vm.qmp2.send("human-monitor-command", {"command-line": line})
        start = time.monotonic()
        assert_gave_way(vm, ident, line.split()[0])
        gave = time.monotonic() - start
        answer = vm.qmp2.recv(request)
        assert answer.strip() == "", answer
        took = time.monotonic() - start
        assert gave < LIMIT, f"{line}: the call gave way after {gave:.3f} s"
        return took

    def settled():
        vm.guest.sync()
        vm.wait_state(timeout=5)
        works(vm)

    plain("savevm warm")
    for line in ("savevm one", "loadvm one"):
        without = plain(line)
        settled()
        took = during(line)
        comment(f"{line}: {without * 1000:.0f} ms, during a call {took * 1000:.0f} ms")
        assert took < 1.5 * without + LIMIT, (line, took, without)
        settled()


@case("snapshot-save: a call costs it less than 200 ms")
def snapshot_save():
    """QEMU's main loop writes the state before the reply goes out: it is compared."""
    vm = guest()

    def save(name):
        start = time.monotonic()
        vm.qmp2.cmd("snapshot-save", {"job-id": name, "tag": name, "vmstate": "disk0",
                                      "devices": ["disk0"]})
        return time.monotonic() - start

    def conclude(name):
        def job():
            found = [j for j in vm.qmp2.cmd("query-jobs") if j["id"] == name]
            return found[0] if found[0]["status"] == "concluded" else None
        assert "error" not in wait_for(job, 30, name)
        vm.qmp2.cmd("job-dismiss", id=name)

    without = save("alone")
    conclude("alone")
    with gives_way(vm, "snapshot-save", limit=1.5 * without + LIMIT):
        save("during")
    conclude("during")
    works(vm)


@case("system_reset returns in under 200 ms, and the guest boots again")
def system_reset():
    """The module has to be loaded anew."""
    vm = guest()
    with gives_way(vm, "system_reset"):
        vm.qmp2.cmd("system_reset")
    vm.qmp2.wait_event("RESET")
    vm.wait_ready()
    vm.wait_state()
    loaded(vm)


@case("migrate returns in under 200 ms; the source goes on after cont")
def migrate():
    """To nowhere. What ended with the migration is registered again."""
    vm = guest()
    with gives_way(vm, "migrate"):
        vm.qmp2.cmd("migrate", uri="exec:cat > /dev/null")
    wait_for(lambda: vm.qmp2.cmd("query-migrate").get("status") in ("completed", "failed"),
             30, "the migration's end")
    assert vm.qmp2.cmd("query-migrate")["status"] == "completed"
    assert call(vm.qmp, "echo", "echo")[0] in ("stopped", "not-connected")
    vm.qmp2.cmd("cont")
    vm.wait_state(timeout=3)
    works(vm)


@case("quit returns in under 200 ms, and QEMU ends")
def quits():
    """Within a second."""
    with VM(**options("quit")) as vm:
        loaded(vm)
        with gives_way(vm, "quit"):
            start = time.monotonic()
            vm.qmp2.cmd("quit")
        assert vm.process.wait(5) == 0 and time.monotonic() - start < 1


@case("SIGTERM ends QEMU during a call")
def sigterm():
    """Within a second."""
    with VM(**options("sigterm")) as vm:
        loaded(vm)
        long_call(vm)
        start = time.monotonic()
        vm.process.send_signal(signal.SIGTERM)
        assert vm.process.wait(5) == 0 and time.monotonic() - start < 1


if __name__ == "__main__":
    main()
