#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Nobody but its own monitor waits for a guest-* command.

A call of 20 s is under way on the first monitor; others are at work meanwhile. Cancelled calls
keep their slots until the procedure ends, hence many slots.
"""
import contextlib
import json
import pathlib
import signal
import subprocess
import tempfile
import threading
import time

from harness import (QMP, VM, Late, QMPError, call, call_args, case, comment, counters, insmod, least_seconds, main, ms,
                     shared, stats, wait_for)
from harness.debug_kernel import more_memory
from harness.paths import QEMU_IMG, connect_unix

LIMIT = 0.2
MEMORY = "192M"
FOLDER = tempfile.TemporaryDirectory(prefix="rvmrpc-disk-")


def options(name):
    """Of a guest with a disk for snapshots, a balloon and a third monitor."""
    path = pathlib.Path(FOLDER.name, name + ".qcow2")
    if not path.exists():
        subprocess.run([QEMU_IMG, "create", "-q", "-f", "qcow2", path, "64M"], check=True)
    return {"append": "rvmrpc.allow=default,test.* rvmrpc.slots=32", "memory": MEMORY,
            "device_opts": "slots=32",
            "extra": ["-qmp", "unix:qmp3.sock,server=on,wait=off",
                      "-blockdev", f"driver=file,filename={path},node-name=file0",
                      "-blockdev", "driver=qcow2,file=file0,node-name=disk0",
                      "-device", "virtio-blk-pci,drive=disk0",
                      "-device", "virtio-balloon-pci"]}


def loaded(vm):
    """Module "test" is there, the channel works, both monitors are connected."""
    vm.qmp2.cmd("query-name")
    if vm.guest.run("test -d /sys/module/rvmrpc_test_mod")[0]:
        insmod(vm, "rvmrpc_test_mod")
    assert call(vm.qmp2, "test", "xid", timeout=5000)[0] == "ok"
    return vm


def guest():
    """The guest that most cases share."""
    return loaded(shared(**options("shared")))


def sleep_on(vm, qmp, duration=20000, timeout=25000):
    """Sends a call that sleeps, and returns its id when it runs in the guest."""
    before = counters(vm)["workers"]
    ident = qmp.send("guest-kernel-call", call_args("test", "sleep", ms(duration), timeout))
    wait_for(lambda: counters(vm)["workers"] == before + 1, 10, "the call in the guest")
    return ident


@contextlib.contextmanager
def third(vm, **how):
    """A client of the third monitor."""
    with QMP(vm.dir / "qmp3.sock", **how) as qmp:
        yield qmp


@contextlib.contextmanager
def long_call(vm, **how):
    """A call on the third monitor that must still be under way at the end, and ends with it."""
    with third(vm, **how) as qmp:
        ident = sleep_on(vm, qmp)
        yield qmp
        assert stats(vm, vm.qmp2)["in-flight"] == 1
        pending = qmp.pending()
        assert ident not in pending, pending
    idle(vm)


def idle(vm, limit=5):
    """No call is under way any more."""
    wait_for(lambda: stats(vm, vm.qmp2)["in-flight"] == 0, limit, "the end of the calls",
             interval=0.01)


def works(vm):
    """What comes after is as ever."""
    assert call(vm.qmp, "echo", "echo", b"x", timeout=5000) == ("ok", b"x")
    assert call(vm.qmp2, "echo", "echo", b"y", timeout=5000) == ("ok", b"y")


def timed(action, *args):
    """How long it takes."""
    start = time.monotonic()
    action(*args)
    return time.monotonic() - start


def at_once(action):
    """What can be done again takes less than LIMIT, when other work of the machine lets it."""
    took = least_seconds(action, LIMIT)
    assert took < LIMIT, took


@case("a call takes its time")
def undisturbed():
    """Else the other cases would show nothing."""
    vm = guest()
    start = time.monotonic()
    assert call(vm.qmp, "test", "sleep", ms(2000), 20000) == ("ok", b"")
    assert time.monotonic() - start > 1.9


# ---- What others do meanwhile ----

def connects(vm):
    """A client that comes, says qmp_capabilities and goes."""
    QMP(vm.dir / "qmp.sock").close()


def human(line):
    """As a command of human-monitor-command, which must say nothing."""
    def run(vm):
        answer = vm.qmp2.hmp(line)
        assert line.startswith("info") or not answer.strip(), answer
    return run


def command(name, **args):
    """A command of the second monitor."""
    return lambda vm: vm.qmp2.cmd(name, **args)


def both(first, second):
    """Two commands that undo each other."""
    def run(vm):
        first(vm)
        second(vm)
    return run


ADDED = {"driver": "null-co", "node_name": "added"}
OTHERS = {
    "query-status": command("query-status"),
    "query-rvmrpc": command("query-rvmrpc"),
    "query-block": command("query-block"),
    "balloon": command("balloon", value=int(more_memory(MEMORY)[:-1]) << 20),
    "blockdev-add, blockdev-del": both(command("blockdev-add", **ADDED),
                                       command("blockdev-del", node_name="added")),
    "object-add, object-del": both(command("object-add", qom_type="rng-builtin", id="added"),
                                   command("object-del", id="added")),
    "block_resize": command("block_resize", node_name="disk0", size=64 << 20),
    "stop, cont": both(command("stop"), command("cont")),
    "HMP info status": human("info status"),
    "HMP stop, cont": both(human("stop"), human("cont")),
    "HMP s, c": both(human("s"), human("c")),
    "a client that connects": connects,
    "guest-meminfo": command("guest-meminfo"),
}


def slow(without, during):
    """Those that take longer during a call."""
    return [name for name in OTHERS if during[name] > 2 * without[name] + 0.01]


@case("every other command is as fast as without a call", oob=False)
@case("the same, the call's client with OOB", oob=True)
def others(oob):
    """The median of five, on another monitor."""
    vm = guest()
    vm.qmp.close()              # its monitor is for the client that connects

    def medians():
        return {name: sorted(timed(run, vm) for _ in range(5))[2] for name, run in OTHERS.items()}
    try:
        medians()               # what is slow at its first time only
        without = medians()
        with long_call(vm, enable=["oob"] if oob else []):
            during = medians()
            for _ in range(3):
                # Other work may have begun meanwhile: what the call costs, it costs each time.
                if slow(without, during):
                    during = {name: min(took, during[name]) for name, took in medians().items()}
    finally:
        vm.qmp = QMP(vm.dir / "qmp.sock")
    for name, took in during.items():
        comment(f"{name}: {without[name] * 1000:.2f} ms, during a call {took * 1000:.2f} ms")
    assert not slow(without, during), slow(without, during)
    works(vm)


@case("device_add and device_del return in under 200 ms")
def hotplug():
    """Of a device that has nothing to do with us."""
    vm = guest()
    with long_call(vm):
        adds, dels = [], []
        while not adds or len(adds) < 5 and max(min(adds), min(dels)) >= LIMIT:
            adds.append(timed(command("device_add", driver="virtio-rng-pci", id="rng"), vm))
            dels.append(timed(command("device_del", id="rng"), vm))
            vm.qmp2.wait_event("DEVICE_DELETED", timeout=30, match=lambda d: d.get("device") == "rng")
        assert max(min(adds), min(dels)) < LIMIT, (adds, dels)
    works(vm)


@case("savevm and snapshot-save: a call costs them less than 200 ms, and goes on")
def saves():
    """They take time of their own, to write the state: it is compared."""
    vm = guest()

    def snapshot_save(name):
        took = timed(lambda: vm.qmp2.cmd("snapshot-save", {
            "job-id": name, "tag": name, "vmstate": "disk0", "devices": ["disk0"]}))

        def job():
            found = [j for j in vm.qmp2.cmd("query-jobs") if j["id"] == name]
            return found[0] if found[0]["status"] == "concluded" else None
        assert "error" not in wait_for(job, 30, name)
        vm.qmp2.cmd("job-dismiss", id=name)
        return took

    def savevm(name):
        return timed(human("savevm " + name), vm)

    def saved(what):
        """The shorter of two: other work of the machine makes one longer, a call that is waited for both."""
        return tuple(min(how(f"{what}{name}{n}") for n in range(2))
                     for name, how in (("-savevm", savevm), ("-snapshot", snapshot_save)))

    def dear(during):
        return any(took >= 1.5 * alone + LIMIT for alone, took in zip(without, during))

    savevm("warm")
    without = saved("alone")
    with long_call(vm):
        during = saved("during")
        for n in range(2):
            if dear(during):
                during = tuple(map(min, during, saved(f"again{n}")))
    comment(f"savevm, snapshot-save: {without} s, during a call {during} s")
    assert not dear(during), (without, during)
    works(vm)


@case("loadvm ends a call of another monitor with reset")
def loadvm():
    """The state that is loaded knows nothing of it."""
    vm = guest()
    human("savevm one")(vm)
    with third(vm) as qmp:
        ident = sleep_on(vm, qmp)
        human("loadvm one")(vm)
        assert qmp.recv(ident, timeout=10)["status"] == "reset"
    vm.guest.sync()
    wait_for(lambda: vm.qmp2.cmd("query-rvmrpc")["state"] == "connected", 20, "the driver")
    works(vm)


@case("system_reset returns in under 200 ms, ends a call with reset, and the guest boots again")
def system_reset():
    """The module has to be loaded anew."""
    vm = guest()
    with third(vm) as qmp:
        ident = sleep_on(vm, qmp)
        with Late(vm.process.pid) as late:
            took = late.timed(command("system_reset"), vm)
        assert took < LIMIT, took
        assert qmp.recv(ident, timeout=10)["status"] == "reset"
    vm.qmp2.wait_event("RESET")
    vm.wait_ready()
    vm.wait_state()
    loaded(vm)


@case("migrate returns in under 200 ms; the source goes on after cont")
def migrate():
    """To nowhere. What ended with the migration is registered again."""
    vm = guest()
    with third(vm) as qmp:
        ident = sleep_on(vm, qmp)
        with Late(vm.process.pid) as late:
            took = late.timed(command("migrate", uri="exec:cat > /dev/null"), vm)
        assert took < LIMIT, took
        wait_for(lambda: vm.qmp2.cmd("query-migrate").get("status") in ("completed", "failed"),
                 30, "the migration's end")
        assert vm.qmp2.cmd("query-migrate")["status"] == "completed"
        assert qmp.recv(ident, timeout=10)["status"] == "reset"
    assert call(vm.qmp, "echo", "echo")[0] == "stopped"
    vm.qmp2.cmd("cont")
    vm.wait_state(timeout=20)
    works(vm)


# ---- Several guest-* commands ----

@case("calls of three monitors run at the same time")
def parallel():
    """Each sleeps for a second."""
    vm = guest()
    with third(vm) as qmp:
        monitors = vm.qmp, vm.qmp2, qmp

        def together():
            idents = [m.send("guest-kernel-call", call_args("test", "sleep", ms(1000), 5000))
                      for m in monitors]
            for monitor, ident in zip(monitors, idents):
                assert monitor.recv(ident)["status"] == "ok"
        took = least_seconds(together, 1.7)
    comment(f"{took:.3f} s")
    assert took < 1.7, took


@case("what follows on the same monitor is answered in its order", oob=False)
@case("the same with OOB, whose own commands overtake", oob=True)
def order(oob):
    """The call is the first to be answered, whatever is sent behind it."""
    vm = guest()
    with third(vm, enable=["oob"] if oob else []) as qmp:
        first = sleep_on(vm, qmp, 4000, 20000)
        sent = [first, qmp.send("query-name"), qmp.send("guest-loadavg"),
                qmp.send("query-status"), qmp.send("guest-kernel-call", call_args("no", "such"))]
        if oob:
            at_once(lambda: qmp.cmd("yank", instances=[], oob=True))
            assert not qmp.replies
        last = qmp.send("query-name")
        qmp.recv(last)
        assert list(qmp.replies) == sent, qmp.replies
        assert qmp.recv(first)["status"] == "ok"
        for ident in sent[1:]:
            qmp.recv(ident)
    works(vm)


@case("a guest-* command has an answer of the same form as any other")
def forms():
    """Ids, errors, and what the dispatcher itself refuses."""
    vm = guest()
    for ident in (7, "seven", {"a": [1]}, None):
        reply = vm.qmp.cmd_raw(json.dumps({"execute": "guest-loadavg", "id": ident}))
        assert reply["id"] == ident and "load1m" in reply["return"], reply
    assert set(vm.qmp.cmd_raw('{"execute": "guest-loadavg"}')) == {"return"}
    for request, text in (
            ({"extra": 1}, "QMP input member 'extra' is unexpected"),
            ({"arguments": 1}, "QMP input member 'arguments' must be an object"),
            ({"arguments": {"extra": 1}}, "Parameter 'extra' is unexpected"),
            ({"arguments": {"timeout": 0}}, "timeout must be between 1 and 60000 milliseconds"),
            ({"execute": "guest-no-such"}, "The command guest-no-such has not been found")):
        reply = vm.qmp.cmd_raw(json.dumps({"execute": "guest-loadavg", "id": 1, **request}))
        assert reply["id"] == 1 and reply["error"]["desc"] == text, reply
    with contextlib.closing(connect_unix(vm.dir / "qmp3.sock")) as sock:
        sock.settimeout(5)
        with sock.makefile("rw", encoding="utf-8") as file:
            assert "QMP" in file.readline()
            file.write('{"execute": "guest-loadavg"}\n')
            file.flush()
            assert "Expecting capabilities negotiation" in file.readline()


# ---- Ends ----

@case("a client that goes cancels its call; the next one gets no answer of it", oob=False)
@case("the same with OOB and a full queue", oob=True)
def closes(oob):
    """Even where the call would have ended soon."""
    vm = guest()
    how = {"enable": ["oob"]} if oob else {}
    ended = []
    for duration in (20000, 20000, 4000):
        before = stats(vm, vm.qmp2)["cancelled"]
        with third(vm, **how) as qmp:
            sleep_on(vm, qmp, duration)
            for _ in range(20 if oob else 3):
                qmp.send("query-name")
            assert stats(vm, vm.qmp2)["in-flight"] == 1
        ended.append(timed(idle, vm))
        assert stats(vm, vm.qmp2)["cancelled"] == before + 1
        with third(vm, **how) as qmp:
            at_once(lambda qmp=qmp: qmp.cmd("query-name"))
            assert duration > 4000 or not qmp.pending(4.2)
            assert call(qmp, "echo", "echo", b"z", timeout=5000) == ("ok", b"z")
    assert min(ended) < LIMIT, ended
    works(vm)


@case("clients that come and go, 100 times")
def come_and_go():
    """Each leaves a call behind, before or after it came to the guest."""
    vm = guest()
    before = stats(vm, vm.qmp2)
    for i in range(100):
        with third(vm, enable=["oob"] if i % 2 else []) as qmp:
            qmp.send("guest-kernel-call", call_args("test", "sleep", ms(20), 5000))
            if i % 3:
                qmp.send("guest-meminfo")
            qmp.pending(0.003 * (i % 8))
    idle(vm)
    after = stats(vm, vm.qmp2)
    comment(f"cancelled: {after['cancelled'] - before['cancelled']}")
    assert after["cancelled"] > before["cancelled"]
    works(vm)


@case("a typed command waits for a guest that hangs; nobody else does")
def typed():
    """guest-meminfo while the server thread is held up."""
    vm = guest()
    # It runs if the guest takes it within its time.
    vm.qmp2.cmd("guest-kernel-call", call_args("test", "sleep-inline", ms(8000), 2000))
    with third(vm) as qmp:
        short, full = vm.qmp.send("guest-meminfo", timeout=200), qmp.send("guest-meminfo", timeout=1000)
        at_once(lambda: vm.qmp2.cmd("query-status"))
        try:
            raise AssertionError(vm.qmp.recv(short))
        except QMPError as error:
            assert error.desc.startswith("timed-out: "), error
        try:
            qmp.recv(full)
        except QMPError as error:
            assert error.desc.startswith("timed-out: "), error
    wait_for(lambda: call(vm.qmp2, "test", "xid", timeout=1000)[0] == "ok", 20, "the guest")
    works(vm)


def ends_soon(vm, calls, action):
    """QEMU ends, and who waits for a call hears so; how long the action and all of it took."""
    start = time.monotonic()
    took = timed(action)
    for qmp, ident in calls:
        reply = qmp.recv(ident, timeout=10)
        assert reply["status"] in ("stopped", "cancelled") and reply["data"] == "", reply
    assert vm.process.wait(10) == 0
    return took, time.monotonic() - start


def some_end_soon(ends):
    """QEMU ends within a second when other work of the machine lets it: another one is begun only when it did not."""
    for _ in range(3):
        took, all_of_it = ends()
        comment(f"{took * 1000:.1f} ms, the end after {all_of_it * 1000:.0f}")
        if took < LIMIT and all_of_it < 1:
            return
    raise AssertionError((took, all_of_it))


@case("quit returns in under 200 ms, and QEMU ends, with calls of two monitors")
def quits():
    """One of them with OOB and more requests behind its call."""
    def ends():
        with VM(**options("quit")) as vm:
            loaded(vm)
            with third(vm, enable=["oob"]) as qmp:
                calls = [(vm.qmp, sleep_on(vm, vm.qmp)), (qmp, sleep_on(vm, qmp))]
                for _ in range(4):
                    qmp.send("guest-meminfo")
                return ends_soon(vm, calls, lambda: vm.qmp2.cmd("quit"))
    some_end_soon(ends)


@case("SIGTERM ends QEMU during a call")
def sigterm():
    """The same."""
    def ends():
        with VM(**options("sigterm")) as vm:
            loaded(vm)
            calls = [(vm.qmp, sleep_on(vm, vm.qmp))]
            return ends_soon(vm, calls, lambda: vm.process.send_signal(signal.SIGTERM))
    some_end_soon(ends)


def keep_asking(path, name):
    """Until QEMU has gone; with OOB several requests are queued."""
    with contextlib.suppress(ConnectionError), QMP(path, enable=["oob"]) as qmp:
        while True:
            for ident in [qmp.send(name) for _ in range(6)]:
                with contextlib.suppress(QMPError):
                    qmp.recv(ident, timeout=5)


@case("quit while clients keep asking, 30 times")
def quits_busy():
    """Requests come until QEMU is gone; without a guest, where guest-* commands fail at once."""
    for i in range(30):
        extra = [x for name in ("3", "4") for x in
                 ("-qmp", f"unix:qmp{name}.sock,server=on,wait=off")]
        vm = VM(kernel=None, memory="64M", extra=extra).start()
        vm.qmp2.cmd("query-name")
        threads = [threading.Thread(target=keep_asking, args=(vm.dir / path, name)) for path, name in
                   (("qmp3.sock", "query-name"), ("qmp4.sock", "guest-meminfo"))]
        for thread in threads:
            thread.start()
        time.sleep(0.1 + 0.001 * i)
        vm.qmp2.cmd("quit")
        assert vm.process.wait(20) == 0, (i, vm.process.returncode)
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        vm.stop()


if __name__ == "__main__":
    main()
