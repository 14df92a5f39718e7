#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The rvmrpc command: on real guests, and on bad input with fakes."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from fake import (ALL, EVENT, INFO, MEMORY, SUBMIT, SUBSCRIBE, Fakes, Frame, answer_with, hang, info_answer,  # noqa: E402
                  only_submits, send_raw)
from harness import VM, Skip, case, comment, main, shared, wait_for  # noqa: E402
from harness.sock import ANSWER, ERROR  # noqa: E402
from tools import PATIENT, RVMRPC, environment, ok, rvmrpc, soon, told  # noqa: E402

UUID = "9f2c1a9e-7c1b-4e56-8a53-0a1b2c3d4e5f"
FOLDER = tempfile.TemporaryDirectory(prefix="rvmrpc-clients-")


def guest(name):
    """web: all there; idle: to be paused; bare: no driver. Shared by the cases."""
    extra = ["-name", f"guest={name},debug-threads=on"]
    if name == "web":
        extra += ["-uuid", UUID]
    return shared(device_opts=f"socket={FOLDER.name}/{name}.sock", extra=extra, memory="192M",
                  append=PATIENT + (" rvmrpc.load=0" if name == "bare" else ""))


def real(*args, **more):
    """The command, with the real guests' sockets only."""
    return rvmrpc(*args, folder=FOLDER.name, **more)


# Real guests


@case("list: a running, a paused and a driverless guest", timeout=120)
def listing():
    """As text and as JSON."""
    guest("web")
    guest("idle").qmp.cmd("stop")
    guest("bare")
    vms = {vm["name"]: vm for vm in real("list", "--json", "-t", 10000).json()}
    assert {name: vm["state"] for name, vm in vms.items()} == {
        "web": "connected", "idle": "paused", "bare": "no-driver"}
    assert vms["web"]["uuid"] == UUID and vms["web"]["pid"] == guest("web").process.pid
    assert vms["web"]["way"] == "socket" and vms["web"]["release"].startswith("6.12")
    text = real("list", "-t", 10000).out
    assert re.search(rf"^web +{UUID} +\d+ +connected +socket +linux 6\.12", text, re.M), text
    assert "\033" not in text
    guest("idle").qmp.cmd("cont")


@case("a VM by name, uuid, pid and socket: meminfo is what QMP says")
def meminfo():
    """Total to the byte."""
    vm = guest("web")
    total = vm.qmp.cmd("guest-meminfo")["total"]
    for what in ("web", UUID, UUID.upper(), vm.process.pid, f"{FOLDER.name}/web.sock"):
        mem = told(lambda what=what: real("meminfo", what, "--json"), lambda result: result.status != 3).json()
        assert mem["total"] == total and 0 < mem["available"] < total, (what, mem)
    assert re.search(rf"^total +\S+M +{total}$", real("meminfo", "web").out, re.M)
    raw = real("meminfo", "web", "--raw").out
    assert raw.startswith("MemTotal:") and f"{total // 1024} kB" in raw


@case("found by its process alone, with no folder of sockets")
def by_process():
    """As libvirt's domains are, and with a name that has a comma."""
    with tempfile.TemporaryDirectory() as folder:
        with VM(kernel=None, rundir=folder, device_opts="socket=far.sock",
                extra=["-name", "guest=a,,b,debug-threads=on", "-S"]).start() as vm:
            info = ok("info", "a,b", "--json").json()
            assert info["pid"] == vm.process.pid and info["state"] == "paused", info
            assert info["socket"] == f"{os.path.realpath(folder)}/far.sock", info


@case("by QMP when there is no socket")
def by_qmp():
    """The monitor is given back when the command ends."""
    with VM(extra=["-name", "plain", "-qmp", "unix:third.sock,server=on,wait=off"]) as vm:
        for what in ("plain", vm.dir / "third.sock"):
            info = ok("info", what, "--json").json()
            assert info["way"] == "qmp" and info["state"] == "connected", info
        mem = ok("meminfo", "plain", "--json").json()
        assert mem["total"] == vm.qmp.cmd("guest-meminfo")["total"]
        assert ok("call", "plain", "echo", "echo", "by qmp").out == "by qmp"
        assert rvmrpc("call", "plain", "core", "exit").status == 8


@case("by QMP: no client has what another was told")
def by_qmp_apart():
    """A monitor goes on with its answers to whoever comes next."""
    with VM(extra=["-name", "plain", "-qmp", "unix:third.sock,server=on,wait=off"]) as vm:
        path = str(vm.dir / "third.sock")
        for _ in range(20):
            ok("info", path)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(path)
                first = sock.makefile().readline()
            assert "QMP" in first, first
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/fake.sock")
        listener.listen()
        threading.Thread(target=late_monitor, args=(listener,), daemon=True).start()
        assert ok("call", f"{folder}/fake.sock", "echo", "echo", "late").out == "late"


def late_monitor(listener):
    """Tells each client first what the one before it was to hear."""
    while True:
        # A client that goes away with answers unread ends the connection hard, and closing the stream says so once more.
        with contextlib.suppress(ConnectionError), listener.accept()[0] as sock, \
                sock.makefile("rw", errors="replace") as stream:
            serve_late(stream)


def serve_late(stream):
    """One client of it."""
    stale = {"error": {"class": "GenericError", "desc": "JSON parse error, stray 'R'"}}

    def say(message):
        stream.write(json.dumps(message) + "\n")
        stream.flush()
    for message in (stale, {"QMP": {}}, stale):
        say(message)
    for line in stream:
        if line[0] != "{":
            break
        request = json.loads(line)
        data = request.get("arguments", {}).get("data", "")
        say({"return": {"status": "ok", "data": data, "elapsed-ns": 1}, "id": request["id"]})


@case("loadavg, cpuinfo, cpustat, osinfo")
def facts():
    """Against QMP."""
    vm = guest("web")
    load = real("loadavg", "web", "--json").json()
    assert set(load) == {"load1m", "load5m", "load15m", "runnable", "threads"}
    assert re.fullmatch(r"\d+\.\d\d \d+\.\d\d \d+\.\d\d \d+/\d+\n", real("loadavg", "web").out)
    cpus = real("cpuinfo", "web", "--json").json()
    qmp = vm.qmp.cmd("guest-cpuinfo")
    assert cpus["online"] == qmp["online"] == 1
    assert cpus["cpus"][0]["model-name"] == qmp["cpus"][0]["model-name"]
    before = vm.qmp.cmd("guest-cpustat")["total"]
    got = real("cpustat", "web", "--json").json()["total"]
    after = vm.qmp.cmd("guest-cpustat")["total"]
    assert before["idle"] <= got["idle"] <= after["idle"], (before, got, after)
    assert real("osinfo", "web", "--json").json()["release"] == \
        vm.qmp.cmd("guest-osinfo")["release"]
    assert "online" in real("cpuinfo", "web").out and "all" in real("cpustat", "web").out


@case("drop-caches has the guest drop its slab")
def drop_caches():
    """And says how much memory that freed."""
    guest("web")
    before = real("meminfo", "web", "--json").json()
    freed = real("drop-caches", "web", "all", "--sync", "--json")
    assert freed.status == 0 and freed.json()["freed"] >= 0, freed
    after = real("meminfo", "web", "--json").json()
    assert after["slab-reclaimable"] <= before["slab-reclaimable"], (before, after)
    assert "bytes" in real("drop-caches", "web", "slab").out


@case("call: by name and number; text, hex, file, stdin; JSON")
def call():
    """Of bytes that are no text, too."""
    guest("web")
    assert real("call", "web", "echo", "echo", "hello").out == "hello"
    assert real("call", "web", 1, 0, "hex:416243").out == "AbC"
    assert real("call", "web", "0x1", "echo", "-", stdin=b"from stdin").out == "from stdin"
    with tempfile.NamedTemporaryFile() as f:
        f.write(b"from a file")
        f.flush()
        assert real("call", "web", "echo", "echo", f"@{f.name}").out == "from a file"
    reply = real("call", "web", "echo", "echo", "hex:00ff", "--json").json()
    assert reply["status"] == "ok" and reply["data"] == "AP8=" and reply["elapsed-ns"] > 0
    assert real("call", "web", "procfs", "read", "/proc/version").out.startswith("Linux version 6.12")


@case("ping counts and sums up as ping does")
def ping():
    """Least <= mean <= greatest, all answered."""
    guest("web")
    result = real("ping", "web", "-c", 20, "-i", 0.01)
    assert result.status == 0 and result.out.count("answer ") == 20, result
    match = re.search(r"20 calls, 20 answered, 0% loss\n"
                      r"min/mean/max/stddev = (\d+)/(\d+)/(\d+)/(\d+) us", result.out)
    low, mean, high, _ = map(int, match.groups())
    assert 0 < low <= mean <= high and low < 1_000_000
    comment(f"{low}/{mean}/{high} us (ASan)")
    assert real("ping", "web", "-c", 3, "-i", 0.01, "--json").json()["received"] == 3


@case("a paused guest and one without driver: exit status 7, what to do")
def not_now():
    """At once."""
    guest("idle").qmp.cmd("stop")
    result = soon(2, lambda: real("meminfo", "idle"))
    assert (result.status, result.out) == (7, "") and "idle: the VM is paused" in result.err, result
    guest("idle").qmp.cmd("cont")
    guest("bare")
    result = real("meminfo", "bare")
    assert result.status == 7 and "bare: no driver" in result.err, result
    assert "load rvmrpc in the guest" in result.err


@case("what the guest refuses: exit status 8 and the reason")
def refused():
    """Names and numbers that are not there, and what is not allowed."""
    guest("web")
    for args, text in ((("nope", "x"), "no such module"), (("echo", "nope"), "no such procedure"),
                       (("0x999", "0"), "no such module"), (("core", "exit"), "allow-list"),
                       (("procfs", "read", "/proc/../etc/passwd"), "argument")):
        result = real("call", "web", *args)
        assert result.status == 8 and "web: " in result.err and text in result.err, (args, result)


@case("watch: lines, and the events of a reset", timeout=90)
def watch():
    """As JSON, one document a line; ends at SIGINT."""
    vm = guest("web")
    with subprocess.Popen([RVMRPC, "watch", "web", "--json", "-i", "0.2", "-t", "10000"],
                          env=environment(FOLDER.name), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        lines = [json.loads(process.stdout.readline()) for _ in range(3)]
        assert all(line["state"] == "connected" and line["memory"]["total"] for line in lines)
        time.sleep(0.5)
        vm.qmp.cmd("system_reset")
        events = []
        while len(events) < 2:
            line = json.loads(process.stdout.readline())
            if "event" in line:
                events.append(json.loads(line["event"])["event"])
        assert events == ["RVMRPC_DISCONNECTED", "RVMRPC_CONNECTED"], events
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
        assert process.returncode == 0 and not err, (process.returncode, err)
    vm.wait_ready()


@case("watch: events of a VM whose socket was away for a moment come again (fakes)")
def watch_again():
    """As a daemon's that is started anew."""
    subscribed = []

    def behave(frame, connection):
        if frame.kind != SUBSCRIBE:
            return False
        subscribed.append(connection)
        if len(subscribed) == 1:
            connection.close()
            return True
        connection.sendall(Frame(INFO, b"{}", cookie=frame.cookie).pack() + Frame(EVENT, b'{"event": "SOME"}').pack())
        return True
    with Fakes() as fakes:
        fakes.add("web", behave=behave)
        with subprocess.Popen([RVMRPC, "watch", "web", "--json", "-i", "0.2"], env=environment(fakes.folder),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                deadline = time.monotonic() + 15
                lines = []
                while time.monotonic() < deadline and "event" not in (lines[-1] if lines else {}):
                    lines.append(json.loads(process.stdout.readline()))
                assert lines[-1].get("event") == '{"event": "SOME"}', (len(subscribed), lines[-1])
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=10)
            finally:
                process.kill()


# Bad input


@case("wrong use: exit status 2")
def usage():
    """Each with a line that helps."""
    for args in ((), ("frob",), ("meminfo",), ("meminfo", "a", "b"), ("--frob", "list"),
                 ("list", "-t", "-1"), ("list", "-t", "60001"), ("list", "-t", "x"),
                 ("ping", "x", "-c", "-1"), ("watch", "-i", "0.001"), ("top",), ("top", "-n", "-1"),
                 ("drop-caches", "x", "everything"), ("call", "x", "1", "0", "hex:abc"),
                 ("call", "x", "1", "0", "hex:zz"), ("call", "x", "1", "0", "@/no/such/file")):
        result = rvmrpc(*args, folder="/nonexistent")
        assert result.status == 2 and result.err.startswith("rvmrpc: "), (args, result)
        assert "--help" in result.err, (args, result)
    text = ok("--help").out
    for name in ("list", "info", "meminfo", "loadavg", "cpuinfo", "cpustat", "drop-caches",
                 "call", "top", "watch", "ping", "--json", "--timeout"):
        assert name in text, name
    assert ok("--version").out.startswith("rvmrpc 0.")


@case("unknown and ambiguous VMs: exit status 3")
def unknown():
    """By each kind of name."""
    with Fakes() as fakes:
        for what in ("nobody", "4194304", "00000000-1111-2222-3333-444444444444"):
            result = fakes.run("meminfo", what)
            assert result.status == 3 and f"no VM {what}" in result.err, result
            assert "rvmrpc list" in result.err
        result = fakes.run("meminfo", "/nowhere/x.sock")
        assert result.status == 3 and "no socket /nowhere/x.sock" in result.err, result
        one, two = fakes.add("one"), fakes.add("two")
        one.name = two.name = "twin"
        result = told(lambda: fakes.run("meminfo", "twin"), lambda result: "several" in result.err)
        assert result.status == 3 and "several VMs are called twin" in result.err, result
        assert fakes.run("list").status == 0


@case("a socket that nobody serves: exit status 4")
def unreachable():
    """And it is listed as down."""
    with Fakes() as fakes:
        dead = fakes.folder + "/gone.sock"
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(dead)
        for what in (dead, "gone"):
            result = fakes.run("meminfo", what)
            assert result.status == 4 and "gone: cannot connect" in result.err, result
            assert "does the VM still run" in result.err
        assert fakes.run("list", "--json").json()[0]["state"] == "down"


@case("permission denied: exit status 5")
def denied():
    """As a user who may not open the socket."""
    if os.geteuid():
        raise Skip("needs root to become somebody else")
    with Fakes() as fakes, tempfile.TemporaryDirectory() as folder:
        vm = fakes.add("secret")
        os.chmod(vm.path, 0o600)
        os.chmod(fakes.folder, 0o755)
        # The build folder may be closed to others.
        copy = shutil.copy(RVMRPC, folder)
        os.chmod(folder, 0o755)
        done = subprocess.run([copy, "meminfo", "secret"], env=environment(fakes.folder),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              user=65534, group=65534, extra_groups=[], check=False, timeout=30)
        assert done.returncode == 5, done
        assert "secret: permission denied" in done.stderr and "group" in done.stderr, done


@case("a VM that hangs costs its timeout, and the others nothing")
def hanging():
    """Whether its guest hangs or its QEMU; exit status 6."""
    with Fakes() as fakes:
        fakes.add("guest-hangs", behave=only_submits(hang))
        fakes.add("qemu-hangs", behave=hang)
        fakes.add("fine")
        for what, timeout in (("guest-hangs", 300), ("guest-hangs", 1500),
                              (fakes.folder + "/qemu-hangs.sock", 800)):
            # Finding it takes 0.3 s when it does not say its name.
            result = soon(timeout / 1000 + 1.2, lambda what=what, timeout=timeout: fakes.run("meminfo", what, "-t", timeout))
            assert result.status == 6 and result.seconds > timeout / 1000 - 0.1, result
        assert fakes.run("meminfo", "fine", "--json").json()["total"] == MEMORY[1]
        states = {vm["name"]: vm["state"] for vm in fakes.run("list", "--json", "-t", 4000).json()}
        assert states == {"guest-hangs": "connected", "qemu-hangs": "silent",
                          "fine": "connected"}, states
        result = fakes.run("ping", "guest-hangs", "-c", 2, "-t", 200, "-i", 0.01)
        assert result.status == 6 and "100% loss" in result.out, result


@case("SIGINT ends a call that waits, with 130")
def interrupted():
    """Within a moment."""
    asked = threading.Event()

    def note(_frame, _connection):
        asked.set()
        return True

    def interrupt(*command, said=""):
        asked.clear()
        with subprocess.Popen([RVMRPC, *command, "-t", "60000"], text=True,
                              env=environment(fakes.folder), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            assert asked.wait(20)
            start = time.monotonic()
            process.send_signal(signal.SIGINT)
            told = process.communicate(timeout=10)
            assert process.returncode == 130 and (said or told[0] == "") and said in told[0] and told[1] == "", (command, process.returncode, told)
            return time.monotonic() - start
    with Fakes() as fakes:
        fakes.add("hangs", behave=only_submits(note))
        assert any(interrupt("meminfo", "hangs") < 2 for _ in range(3))
        # Neither whom it did not ask is down, nor has what did not answer no modules.
        interrupt("info", "hangs")
        interrupt("ping", "hangs", said="0 calls, 0 answered")
        interrupt("balance", "--target", "1G", "--once")
    with Fakes() as fakes:
        fakes.add("qemu-hangs", behave=note)
        interrupt("list")


BAD_ANSWERS = {
    "nothing": b"",
    "short": b"\0" * 15,
    "count": info_answer([(1, 0, 0xffffffff, 5)])[:20],
    "many": b"\xff" * 16,
    "raw": (b"\1\0\0\0" b"\4\0\0\0" b"\5\0\0\0" b"\0\0\0\0") + b"\0" * 20,
}


@case("malformed answers of a guest: exit status 9, naming it")
def malformed():
    """Of each kind; unknown keys, types and statuses as well."""
    with Fakes() as fakes:
        for name, payload in BAD_ANSWERS.items():
            fakes.add(name, behave=answer_with(payload))
            for command in ("meminfo", "loadavg", "cpuinfo", "cpustat", "osinfo"):
                result = fakes.run(command, name)
                assert result.status == 9 and f"{name}: " in result.err, (command, result)
                assert "malformed" in result.err, (command, result)
        fakes.add("future", behave=answer_with(info_answer(
            [(1, 0, 0xffffffff, 77), (999, 0, 0, 1), (2, 7, 0, 1), (3, 1, 0, 0xffffffff)])))
        assert fakes.run("meminfo", "future", "--json").json() == {"total": 77}
        fakes.add("status", behave=answer_with(b"", status=99))
        result = fakes.run("meminfo", "status")
        assert result.status == 9 and "unknown status 99" in result.err, result
        assert fakes.run("drop-caches", "nothing", "all").status == 9


@case("what is no frame: exit status 9 or 4, never a crash")
def no_frames():
    """Bytes, half frames, too long ones, errors, a closed connection."""
    raw = {
        "bytes": (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4, 9),
        "long": (Frame(ANSWER, length=0x7fffffff).pack(), 9),
        "version": (Frame(ANSWER, version=9).pack(), 9),
        "error": (Frame(ERROR, b"go \033[31maway").pack(), 4),
        "half": (Frame(ANSWER, b"x" * 50).pack()[:60], 6),
    }
    with Fakes() as fakes:
        for name, (data, status) in raw.items():
            path = fakes.add(name, behave=send_raw(data)).path
            result = fakes.run("meminfo", path, "-t", 500 if name == "half" else 5000)
            assert result.status == status and f"{name}: " in result.err, (name, result)
            assert "\033" not in result.err

        def hang_up(_frame, connection):
            connection.shutdown(socket.SHUT_RDWR)
            return True

        result = fakes.run("meminfo", fakes.add("rude", behave=hang_up).path)
        assert result.status == 4 and "rude: " in result.err, result
        assert fakes.run("list").status == 0


@case("a guest's text is escaped wherever a person reads it")
def escapes():
    """Colours, line breaks, bidirectional overrides, no UTF-8."""
    evil = b"\033[2J\n\r\xff\xe2\x80\xaename"
    with Fakes() as fakes:
        fakes.add("evil", uuid="\033[31m", release="\033]0;owned\007", behave=answer_with(info_answer(
            [(2, 1, 0xffffffff, len(evil) << 32), (6, 1, 0xffffffff, len(evil) << 32),
             (3, 1, 0, len(evil) << 32)], evil)))
        for command in ("list", "osinfo", "cpuinfo", "info"):
            result = fakes.run(command, *(() if command == "list" else ("evil",)))
            assert not re.search("[\0-\t\v-\x1f\x7f\u202a-\u202e]", result.out), (command, result)
        assert "\\x1b" in fakes.run("osinfo", "evil").out
        # A program gets it as it is.
        assert fakes.run("osinfo", "evil", "--json").json()["hostname"].startswith("\033[2J\n\r")


def paged(count, size, following=None):
    """cpuinfo and cpustat of a guest with so many CPUs, of which so many fit into an answer."""
    def behave(frame, connection):
        if frame.kind != SUBMIT or frame.module != 2 or frame.procedure not in (2, 3):
            return False
        first = struct.unpack("<II", frame.payload)[1]
        cpus = range(first, min(first + size, count))
        items = [(2 if frame.procedure == 2 else 1, 0, ALL, count)] if not first else []
        items += [(8 if frame.procedure == 2 else 1, 0, cpu, 1000 + cpu) for cpu in cpus]
        end = first + size
        if end < count:
            items.append((11 if frame.procedure == 2 else 6, 0, ALL, following(end) if following else end))
        connection.sendall(Frame(ANSWER, info_answer(items), cookie=frame.cookie).pack())
        return True
    return behave


@case("cpuinfo and cpustat of more CPUs than fit into an answer (fakes)")
def pages():
    """All of them, each once; a guest that sends in circles is malformed."""
    with Fakes() as fakes:
        fakes.add("many", behave=paged(300, 23))
        for command, key in (("cpuinfo", "hz"), ("cpustat", "user")):
            cpus = fakes.run(command, "many", "--json").json()["cpus"]
            assert [(cpu["index"], cpu[key]) for cpu in cpus] == [(i, 1000 + i) for i in range(300)], command
        for name, following in (("back", lambda end: 1), ("far", lambda end: 1 << 40)):
            fakes.add(name, behave=paged(300, 23, following))
            result = fakes.run("cpustat", name)
            assert result.status == 9 and f"{name}: " in result.err and "malformed" in result.err, result


@case("a guest whose CPUs come one by one: their time is over when it is (fakes)")
def late_pages():
    """Once no time is left nothing more is asked for, though it would be answered at once."""
    last = []
    page = paged(4096, 1)

    def behave(frame, connection):
        if frame.kind == SUBMIT and frame.timeout <= 1:
            last.append(time.monotonic())
        return page(frame, connection)
    with Fakes() as fakes:
        fakes.add("many", behave=behave)
        for _ in range(10):
            last.clear()
            fakes.run("cpustat", "many", "-t", 50)
            # Two, as milliseconds are whole, and what a busy machine takes.
            assert not last or last[-1] - last[0] < 0.02, last


CONNECT = 16


def service(closes, refuse=0, endless=False):
    """A guest's service that takes all. closes: flags and number of each CLOSE that is not refused; endless: it sends."""
    left = [refuse]

    def behave(frame, connection):
        if frame.kind != SUBMIT or frame.module != CONNECT:
            return False
        if frame.procedure == 3:
            return True
        status, answer = 0, b""
        if frame.procedure == 4:
            left[0] -= 1
            status = 9 if left[0] >= 0 else 0
            if not status:
                closes.append(struct.unpack("<QQIIII", frame.payload)[2:4])
        else:
            at = struct.unpack("<QQ", frame.payload[:16])[1] if frame.procedure else 0
            more = bytes(65536) if endless and frame.procedure == 2 else b""
            answer = struct.pack("<QII", at + (len(frame.payload) - 32 if frame.procedure == 1 else 0), 0, 0) + more
        connection.sendall(Frame(ANSWER, answer, cookie=frame.cookie, status=status).pack())
        return True
    return behave


@case("forward: a VM that was paused when a client broke off closes its connection later (fakes)")
def closes_later():
    """Its lease would not end, as others of the session are heard of."""
    closes = []
    with Fakes() as fakes:
        fakes.add("paused", behave=service(closes, refuse=3))
        with subprocess.Popen([RVMRPC, "forward", "0", "paused", "127.0.0.1:7"], env=environment(fakes.folder),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                port = int(process.stdout.readline().split(" ")[0].rsplit(":", 1)[1])
                clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
                clients[0].sendall(b"x")
                time.sleep(0.2)
                clients[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                clients[0].close()
                wait_for(lambda: closes, 10, "the connection to be closed in the guest")
                assert closes == [(1, 2)], closes
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=10)
            finally:
                process.kill()
        clients[1].close()
        # The other one with its session.
        assert process.returncode == 0 and closes[1:] == [(0, 2)], (process.returncode, closes, err)


@case("nc: who breaks off while it waits for its reader closes its connection in the guest (fakes)")
def closes_nc():
    """Before it ends itself."""
    closes = []
    with Fakes() as fakes:
        fakes.add("endless", behave=service(closes, endless=True))
        with subprocess.Popen([RVMRPC, "nc", "endless", "127.0.0.1:7"], env=environment(fakes.folder), stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            # Until all that it keeps is full.
            time.sleep(1)
            process.stdout.close()
            assert process.wait(10) == 1, process.stderr.read()
        assert closes, closes


@case("memory set aside for huge pages is not in use while nobody has it (fakes)")
def huge_pages():
    """As keys, and in what top calls used."""
    with Fakes() as fakes:
        fakes.add("huge", behave=answer_with(info_answer(
            [(1, 0, ALL, 8 << 30), (3, 0, ALL, 1 << 30), (26, 0, ALL, 6 << 30), (27, 0, ALL, 6 << 30),
             (28, 0, ALL, 4 << 30), (29, 0, ALL, 2 << 20)])))
        mem = fakes.run("meminfo", "huge", "--json").json()
        assert mem == {"total": 8 << 30, "available": 1 << 30, "hugetlb": 6 << 30, "huge-total": 6 << 30,
                       "huge-free": 4 << 30, "huge-size": 2 << 20}, mem
        assert re.search(r"^hugetlb +6.0G ", fakes.run("meminfo", "huge").out, re.M)
        line = json.loads(fakes.run("watch", "huge", "--json", "-c", 1).out)
        assert line["memory"]["used"] == 3 << 30, line


@case("watch -n: so many lines, however short the interval (fakes)")
def watch_lines():
    """Several rounds may pass between two looks at what there is to print."""
    with Fakes() as fakes:
        fakes.add("vm")
        assert fakes.run("watch", "vm", "-i", 0.01, "-n", 6).out.count("\n") == 6


@case("32 VMs in one pass, one of them hung (fakes)")
def many():
    """All listed within the timeout and a bit."""
    with Fakes() as fakes:
        for i in range(31):
            fakes.add(f"vm{i:02}")
        fakes.add("hung", behave=hang)
        # Its timeout, and 2 s.
        result = soon(5, lambda: fakes.run("list", "--json", "-t", 3000))
        states = [vm["state"] for vm in result.json()]
        assert states.count("connected") == 31 and states.count("silent") == 1
        result = fakes.run("watch", "--json", "-c", 1, "-t", 3000)
        lines = [json.loads(line) for line in result.out.splitlines()]
        assert sum(line["state"] == "connected" for line in lines) >= 31, result
        comment(f"list with one hung: {result.seconds:.2f} s")


@case("top --json: a line per refresh with all VMs, one of them hung (fakes)")
def top_json():
    """What the table shows; ends after so many lines."""
    with Fakes() as fakes:
        fakes.add("fine")
        fakes.add("paused", running=False)
        for _ in range(3):
            result = fakes.run("top", "--json", "-n", 3, "-i", 0.3, "-t", 10000)
            lines = [json.loads(line) for line in result.out.splitlines()]
            # The fakes are in this program, which other work of the machine may hold up.
            if not any(vm["late"] for vm in lines[2]["vms"]):
                break
        assert (result.status, len(lines)) == (0, 3) and not result.err, result
        assert all([vm["name"] for vm in line["vms"]] == ["fine", "paused"] for line in lines)
        assert all(re.match(r"\d{4}-\d\d-\d\dT", line["time"]) for line in lines), lines
        fine, paused = lines[2]["vms"]
        assert fine["state"] == "connected" and paused["state"] == "paused", lines[2]
        assert fine["memory"]["total"] == MEMORY[1] and fine["load1m"] == 1.25, fine
        assert fine["memory"]["used"] == MEMORY[1] - MEMORY[3], fine
        assert abs(fine["cpu-percent"] - 25) < 1 and fine["calls-per-second"] > 1, fine
        assert fine["latency-ns"] > 0 and not fine["late"], fine
        fakes.add("hung", behave=hang)
        for _ in range(3):
            result = fakes.run("top", "fine", fakes.folder + "/hung.sock", "--json", "-n", 2, "-i", 0.2,
                               "-t", 3000)
            late = [{vm["name"]: vm["late"] for vm in json.loads(line)["vms"]} for line in result.out.splitlines()]
            if not any(line["fine"] for line in late):
                break
        assert late == [{"fine": False, "hung": True}] * 2, result
        assert result.status == 0 and result.out.count("\n") == 2, result


@case("top --json: each line comes at once; ends at SIGINT, and when nobody reads")
def top_json_ends():
    """With 0 where SIGPIPE is ignored, as under systemd; watch likewise."""
    ends = (("SIGINT", True, 0), ("closed", True, -signal.SIGPIPE), ("closed", False, 0))
    with Fakes() as fakes:
        fakes.add("fine")
        for command in ("top", "watch"):
            for end, sigpipe, status in ends:
                with subprocess.Popen([RVMRPC, command, "--json", "-i", "0.1"], text=True,
                                      env=environment(fakes.folder), stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, restore_signals=sigpipe) as process:
                    for _ in range(2):
                        json.loads(process.stdout.readline())
                    if end == "SIGINT":
                        process.send_signal(signal.SIGINT)
                    else:
                        process.stdout.close()
                    assert process.wait(timeout=10) == status, (command, end, process.returncode)
                    assert not process.stderr.read(), (command, end)


@case("without a socket's folder and without VMs: an empty list")
def empty():
    """No error."""
    assert rvmrpc("list", folder="/nonexistent").out.count("\n") == 1
    assert rvmrpc("list", "--json", folder="/nonexistent").json() == []
    assert rvmrpc("top", "--json", "-n", 1, "-i", 0.1, folder="/nonexistent").json()["vms"] == []


if __name__ == "__main__":
    main()
