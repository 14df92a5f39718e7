#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of the guest serve procedures: /dev/rvmrpc-serve, librvmrpc-guest, rvmrpc-serve."""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

from harness import call, call_args, case, comment, least_seconds, main, set_parameter, shared, wait_for
from harness.rpc import DRIVER

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "clients"))

# pylint: disable=wrong-import-position
from tools import RVMRPC, environment, ok, rvmrpc  # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix="rvmrpc-serve-")
ALLOW = "default,t.*,sh.*,rev.*,fuzz.*"
KERNEL = os.environ.get("RVMRPC_GUEST", "6.12")


def unserved(vm):
    """Nobody serves "t" any more: a program takes a moment to end."""
    wait_for(lambda: call(vm.qmp, "t", 0, timeout=5000)[0] == "module-unavailable", 20, "no server")


def guest():
    """One for all cases, with nobody that serves. With 4 slots programs may hold 2 workers."""
    vm = shared(kernel=KERNEL, smp=2, device_opts=f"socket={FOLDER.name}/serve.sock",
                append=f"rvmrpc.user=1 rvmrpc.allow={ALLOW}", extra=["-name", "guest=serve"])
    vm.guest.run("killall -q -9 serve-test rvmrpc-serve rvmrpc_serve_example")
    unserved(vm)
    return vm


def start(vm, command):
    """A program that serves, in the background; its pid. What it prints is in /tmp/served."""
    vm.guest.check(f"rm -f /tmp/served; {command} > /tmp/served 2>&1 & echo $! > /tmp/pid; "
                   "for i in $(seq 400); do test -s /tmp/served && exit 0; sleep 0.05; done; exit 1")
    return int(vm.guest.check("cat /tmp/pid"))


def test_server():
    """The guest, in which serve-test serves module "t"; and its pid."""
    vm = guest()
    return vm, start(vm, "serve-test serve t 0x300")


def modules(vm):
    """{name: (number, version, {procedure: its flags})} as QEMU has them."""
    return {m["name"]: (m["number"], m["version"],
                        {p["name"]: (p["read-only"], p["may-sleep"], p["allowed"]) for p in m["procedures"]})
            for m in vm.query()["modules"]}


def timed(function, *args, **more):
    """(its result, seconds)"""
    begin = time.monotonic()
    result = function(*args, **more)
    return result, time.monotonic() - begin


def never(qmp, vm, timeout=60000):
    """Sends a call that is never answered, which the program has read when this returns: it answers one after it."""
    ident = qmp.send("guest-kernel-call", call_args("t", "never", b"", timeout))
    assert call(vm.qmp2, "t", "echo", b"then", timeout=20000) == ("ok", b"then")
    return ident


def works(vm):
    """The driver is well, and what it serves itself has a worker."""
    assert call(vm.qmp, "echo", "echo", b"x", timeout=5000) == ("ok", b"x")
    vm.qmp.cmd("guest-drop-caches", mode="pagecache")


@case("the device is root's, and refuses what is wrong")
def refuses():
    """serve-test check is silent when all is as it should be."""
    vm = guest()
    assert vm.guest.check("stat -c '%a %u %F' /dev/rvmrpc-serve").strip() == "600 0 character special file"
    assert vm.guest.check("serve-test check") == ""
    assert "t" not in modules(vm) and "check" not in modules(vm)


@case("echo by QMP, by the command, by number; the list shows it, and is another before and after")
def echo():
    """What it does not serve, and what the list says that it does not allow, is refused."""
    vm = guest()
    before = vm.query()["list-generation"]
    pid = start(vm, "serve-test serve t 0x300")
    assert call(vm.qmp, "t", "echo", b"abc") == ("ok", b"abc")
    assert call(vm.qmp, 0x300, 0, b"") == ("ok", b"")
    assert call(vm.qmp, "t", "echo", bytes(range(256)) * 16) == ("ok", bytes(range(256)) * 16)
    assert ok("call", "serve", "t", "echo", "by the command", folder=FOLDER.name).out == "by the command"
    assert call(vm.qmp, "t", "refuse")[0] == "garbage-args"
    assert call(vm.qmp, 0x300, 99)[0] == "procedure-unavailable"
    number, version, procedures = wait_for(lambda: modules(vm).get("t"), 10, "the list")
    assert (number, version, len(procedures)) == (0x300, 3, 7), procedures
    assert procedures["echo"] == (True, True, True) and procedures["die"] == (False, True, True), procedures
    set_parameter(vm, "allow", "default")
    assert call(vm.qmp, "t", "echo", b"abc")[0] == "not-allowed"
    set_parameter(vm, "allow", ALLOW)
    during = wait_for(lambda: vm.query()["list-generation"] != before and vm.query()["list-generation"], 10, "another list")
    vm.guest.check(f"kill {pid}")
    unserved(vm)
    wait_for(lambda: vm.query()["list-generation"] not in (before, during), 10, "the list after it")
    works(vm)


@case("a program that dies: its callers know at once, whether or not it had begun")
def dies():
    """SYSTEM_ERROR for what it had read, MODULE_UNAVAILABLE for what it had not."""
    shortest = 2
    for _ in range(3):
        vm, _ = test_server()
        (status, _), took = timed(call, vm.qmp, "t", "die", timeout=20000)
        assert status == "system-error", status
        unserved(vm)
        shortest = min(shortest, took)
        # Once is enough: other work of the machine makes it longer.
        if shortest < 2:
            break
    assert shortest < 2, took
    pid = start(vm, "serve-test serve t")
    began = never(vm.qmp, vm)
    vm.guest.check(f"kill -STOP {pid}")
    waiting = vm.qmp2.send("guest-kernel-call", call_args("t", "echo", b"", 60000))
    time.sleep(0.3)
    vm.guest.check(f"kill -KILL {pid}")
    # At once, and not when their minute is over.
    assert vm.qmp.recv(began, timeout=10)["status"] == "system-error"
    assert vm.qmp2.recv(waiting, timeout=10)["status"] == "module-unavailable"
    works(vm)


@case("one that never answers: timed out; two hold all that they may, and nobody else")
def hold_all():
    """Then it is BUSY for programs, while the driver's own procedures have a worker."""
    vm, _ = test_server()
    # First of all: a call that timed out has its worker until the guest sees that, and a second one were busy.
    first = vm.qmp.send("guest-kernel-call", call_args("t", "never", b"", 7000))
    second = vm.qmp2.send("guest-kernel-call", call_args("t", "never", b"", 7000))
    # A guest on a busy host may not have them yet.
    end = time.monotonic() + 5
    result = rvmrpc("call", "serve", "t", "echo", folder=FOLDER.name)
    while not result.status and time.monotonic() < end:
        result = rvmrpc("call", "serve", "t", "echo", folder=FOLDER.name)
    assert result.status and "too many calls" in result.err, result
    assert ok("call", "serve", "reclaim", "drop_caches", "hex:0100000000000000", folder=FOLDER.name)
    for qmp, ident in ((vm.qmp, first), (vm.qmp2, second)):
        assert qmp.recv(ident)["status"] == "timed-out"
    wait_for(lambda: call(vm.qmp, "t", "echo", b"x") == ("ok", b"x"), 10, "a worker")

    def times_out():
        wait_for(lambda: call(vm.qmp, "t", "never", timeout=300)[0] == "timed-out", 10, "a worker that is held for 300 ms")
    assert 0.25 < least_seconds(times_out, 2) < 2


@case("a caller that goes gives its worker back")
def cancelled():
    """The program's answer then finds no call."""
    vm, _ = test_server()
    for _ in range(3):
        with subprocess.Popen([RVMRPC, "call", "serve", "t", "never", "-t", "60000"], stdin=subprocess.DEVNULL,
                              env=environment(FOLDER.name)) as client:
            time.sleep(0.5)
            client.send_signal(signal.SIGKILL)
    wait_for(lambda: call(vm.qmp, "t", "echo", b"x") == ("ok", b"x"), 10, "a worker")
    works(vm)


@case("too much, twice, malformed, of an unknown id")
def answers():
    """The call ends with a status, or with the right answer that follows."""
    vm, _ = test_server()
    assert call(vm.qmp, "t", "big") == ("too-big", b"")
    assert call(vm.qmp, "t", "twice") == ("ok", b"")
    assert call(vm.qmp, "t", "malformed", b"after all that") == ("ok", b"after all that"), vm.guest.check("cat /tmp/served")
    assert call(vm.qmp, "t", "echo", b"x") == ("ok", b"x")


@case("another with the same name or number is refused, and says why")
def taken():
    """The first one serves on."""
    vm, _ = test_server()
    for command in ("serve-test serve t", "serve-test serve other 0x300", "rvmrpc-serve t p -- cat",
                    "rvmrpc-serve -n 0x300 other p -- cat", "rvmrpc-serve echo p -- cat"):
        status, text = vm.guest.run(command, timeout=20)
        assert status == 1 and ("File exists" in text or "another module has" in text), (command, status, text)
    assert call(vm.qmp, "t", "echo", b"x") == ("ok", b"x")


@case("rmmod says that it is in use; a call ends with the device, and another comes with it")
def unbind():
    """The program need not know."""
    vm, _ = test_server()
    status, text = vm.guest.run("rmmod rvmrpc")
    assert status and "unavailable" in text, text
    address = vm.guest.check(f"basename {DRIVER}").strip()
    ident = never(vm.qmp, vm)
    _, took = timed(vm.guest.check, f"echo {address} > /sys/bus/pci/drivers/rvmrpc/unbind")
    # It does not wait for the end of the call, which has a minute; a busy machine may be 3 s late.
    assert took < 6, took
    assert vm.qmp.recv(ident, timeout=10)["status"] in ("reset", "not-connected")
    vm.guest.check(f"echo {address} > /sys/bus/pci/drivers/rvmrpc/bind")
    vm.wait_state()
    assert call(vm.qmp, "t", "echo", b"x", timeout=5000) == ("ok", b"x")
    works(vm)


@case("a machine that suspends does not wait for a program")
def suspend():
    """As far as to the freezing of all tasks and workers, and back."""
    vm, _ = test_server()
    ident = never(vm.qmp, vm)
    _, took = timed(vm.guest.check, "echo 1 > /sys/module/suspend/parameters/pm_test_delay; "
                    "echo freezer > /sys/power/pm_test && echo freeze > /sys/power/state; "
                    "status=$?; echo none > /sys/power/pm_test; exit $status")
    comment(f"{took:.1f} s")
    assert vm.qmp.recv(ident, timeout=10)["status"] == "cancelled"
    assert took < 15, took
    assert call(vm.qmp, "t", "echo", b"x", timeout=5000) == ("ok", b"x")


@case("a shell's command is a procedure: stdin, stdout, exit status, deadline")
def shell():
    """rvmrpc-serve; of what hangs or goes on nothing is left."""
    vm = guest()
    start(vm, "rvmrpc-serve -r sh upper,fail,hang,flood,names,leave,slow -- sh -c '"
          "case $RVMRPC_PROCEDURE in upper) tr a-z A-Z;; fail) echo no; exit 3;; hang) sleep 1234;; flood) cat /dev/zero;; "
          "names) echo $RVMRPC_MODULE.$RVMRPC_PROCEDURE;; leave) sleep 1234 & echo left;; slow) sleep 4; echo slow;; esac'")
    assert vm.guest.check("cat /tmp/served").startswith("sh: 0x1")
    large = b"abcdefgh" * 512
    assert call(vm.qmp, "sh", "upper", large, timeout=5000) == ("ok", large.upper())
    assert ok("call", "serve", "sh", "names", "-t", 5000, folder=FOLDER.name).out == "sh.names\n"
    assert call(vm.qmp, "sh", "fail", timeout=5000) == ("system-error", b"")
    for _ in range(5):
        found = call(vm.qmp, "sh", "hang", timeout=200)
        assert found == ("timed-out", b""), found
    assert call(vm.qmp, "sh", "flood", timeout=10000)[0] == "too-big"
    assert call(vm.qmp, "sh", "leave", timeout=5000) == ("ok", b"left\n")
    wait_for(lambda: vm.guest.run("pgrep -f 'sleep 123[4]'")[0], 10, "the end of what hung")
    ident = vm.qmp2.send("guest-kernel-call", call_args("sh", "slow", b"", 20000))
    # While the other sleeps.
    assert call(vm.qmp, "sh", "names", timeout=5000) == ("ok", b"sh.names\n")
    assert ident not in vm.qmp2.pending(), "it waited for the other"
    assert vm.qmp2.recv(ident)["status"] == "ok"
    assert wait_for(lambda: modules(vm).get("sh"), 10, "the list")[2]["fail"] == (True, True, True)
    for words, text in (("sh", "usage"), ("sh a", "usage"), ("-n 1 sh a -- x", "between"), ("-j 0 sh a -- x", "between"),
                        ("s.h a -- x", "a name is"), ("sh2 a,a -- x", "a name is"), ("sh2 a,,b -- x", "1 to 31")):
        status, out = vm.guest.run(f"rvmrpc-serve {words}", timeout=20)
        assert status in (1, 2) and text in out, (words, out)


@case("the example")
def example():
    """guest-drivers/examples/rvmrpc_serve_example.c."""
    vm = guest()
    vm.guest.check("rvmrpc_serve_example > /dev/null 2>&1 &")
    wait_for(lambda: call(vm.qmp, "rev", "reverse", b"abc") == ("ok", b"cba"), 20, "rev")


def cpu_time(vm, pid):
    """utime and stime in ticks."""
    return sum(int(n) for n in vm.guest.check(f"cat /proc/{pid}/stat").split()[13:15])


@case("programs that wait cost no CPU time")
def idle():
    """Not a tick in 3 s, after they have served."""
    vm, pid = test_server()
    other = start(vm, "rvmrpc-serve sh p -- cat")
    assert call(vm.qmp, "t", "echo", b"x") == ("ok", b"x")
    assert call(vm.qmp, "sh", "p", b"x", timeout=5000) == ("ok", b"x")
    time.sleep(0.2)
    switches = f"grep -h ctxt /proc/{pid}/status /proc/{other}/status"

    def spent():
        return cpu_time(vm, pid), cpu_time(vm, other), vm.guest.check(switches)
    for _ in range(3):
        before = spent()
        time.sleep(3)
        after = spent()
        # What they did last may take its time on a busy machine; what they do all the time is done each time.
        if before == after:
            break
    assert before == after, (before, after)


@case("200 calls of two monitors and of commands, to two programs and the driver", timeout=120)
def mixed():
    """Never a wrong answer; BUSY is one that a caller may get."""
    vm, _ = test_server()
    start(vm, "rvmrpc-serve sh p -- cat")
    counts, wrong = {}, []

    def caller(qmp, name):
        for i in range(80):
            data = f"{name} {i}".encode() * 20
            module, procedure = (("t", "echo"), ("echo", "echo"), ("t", "echo"), ("sh", "p"))[i % 4]
            status, got = call(qmp, module, procedure, data, timeout=5000)
            counts[status] = counts.get(status, 0) + 1
            if (status, got) != ("ok", data) and status != "busy":
                wrong.append((module, status, got[:40]))
    threads = [threading.Thread(target=caller, args=args) for args in ((vm.qmp, "first"), (vm.qmp2, "second"))]
    for thread in threads:
        thread.start()
    for i in range(40):
        result = rvmrpc("call", "serve", "t", "echo", i, "-t", 5000, folder=FOLDER.name)
        if result.out != str(i) and "too many calls" not in result.err:
            wrong.append(result)
    for thread in threads:
        thread.join()
    comment(str(counts))
    assert not wrong, wrong
    assert counts["ok"] > 100, counts
    works(vm)


@case("a program that writes, reads and asks for nonsense", timeout=60)
def fuzz():
    """Callers get some status, the guest stays well."""
    vm = guest()
    start(vm, "serve-test fuzz fuzz 8")
    statuses, began = {}, time.monotonic()
    # Longer on a machine that is busy.
    while time.monotonic() < began + 4 or (sum(statuses.values()) <= 20 and time.monotonic() < began + 7):
        status, _ = call(vm.qmp, "fuzz", "echo", b"x", timeout=200)
        statuses[status] = statuses.get(status, 0) + 1
    comment(str(statuses))
    assert sum(statuses.values()) > 20 and statuses.get("ok"), statuses
    wait_for(lambda: vm.guest.run("pgrep serve-test")[0], 30, "its end")
    works(vm)


@case("without user=1 there is no device, and rvmrpc-serve says so")
def off():
    """The driver's default."""
    vm = guest()
    vm.guest.check("rmmod rvmrpc && insmod /lib/rvmrpc/rvmrpc.ko")
    vm.wait_state()
    status, text = vm.guest.run("test -e /dev/rvmrpc-serve && exit 9; rvmrpc-serve x y -- cat")
    assert status == 1 and "user=1" in text, (status, text)


if __name__ == "__main__":
    main()
