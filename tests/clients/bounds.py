#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is waited for is bounded: by two threads on a connection of librvmrpc, and by virsh. No guest runs."""
import ast
import base64
import contextlib
import ctypes
import json
import os
import pathlib
import pty
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from fake import MEMORY, Fakes, FakeVM, hang, only_submits, procedures, sysinfo  # noqa: E402
from harness import BUILD, Late, Skip, case, comment, main  # noqa: E402
from tools import COMPLAINTS, RVMRPC, environment, rvmrpc  # noqa: E402

BUSY = 7
TOO_BIG = 5
TIMED_OUT = 24              # GIO's
NOBODY = 65534
READ_FILE = (14, 2)
PART = 1000
LARGE = b"".join(b"%05d," % n for n in range(2000))


class GError(ctypes.Structure):
    """GLib's."""
    _fields_ = [("domain", ctypes.c_uint32), ("code", ctypes.c_int), ("message", ctypes.c_char_p)]


class Library:
    """librvmrpc, as a program uses it."""

    def __init__(self):
        self.lib = ctypes.CDLL(str(BUILD / "host-tools" / "librvmrpc.so.0"))
        for name in ("rvmrpc_find_vm", "rvmrpc_connect", "rvmrpc_call", "rvmrpc_query", "rvmrpc_next_event"):
            getattr(self.lib, name).restype = ctypes.c_void_p

    def connect(self, path):
        """A connection."""
        error = ctypes.POINTER(GError)()
        vm = self.lib.rvmrpc_find_vm(path.encode(), None, ctypes.byref(error))
        conn = self.lib.rvmrpc_connect(ctypes.c_void_p(vm), 2000, None, ctypes.byref(error))
        assert conn, error.contents.message
        return ctypes.c_void_p(conn)

    def timed(self, name, *args):
        """(seconds, code of the error)"""
        error = ctypes.POINTER(GError)()
        start = time.monotonic()
        result = getattr(self.lib, name)(*args, None, ctypes.byref(error))
        assert not result
        return time.monotonic() - start, error.contents.code

    def call(self, conn, timeout):
        """A null call."""
        return self.timed("rvmrpc_call", conn, 0, 0, None, timeout, None)


def top_ended_by(gap):
    """Runs top in a terminal and ends it by two signals; (exit status, whether the terminal is as it was)."""
    with Fakes() as fakes:
        fakes.add("web")
        ours, its = pty.openpty()
        before = termios.tcgetattr(its)
        with subprocess.Popen([RVMRPC, "top"], env={**environment(fakes.folder), "TERM": "xterm"}, stdin=its, stdout=its,
                              stderr=subprocess.PIPE) as process:
            try:
                shown = b""
                while b"web" not in shown:
                    shown += os.read(ours, 65536)
                assert termios.tcgetattr(its) != before
                threading.Thread(target=drain, args=(ours,), daemon=True).start()
                process.send_signal(signal.SIGINT)
                time.sleep(gap)
                process.send_signal(signal.SIGINT)
                process.wait(20)
            finally:
                process.kill()
            said = process.stderr.read().decode()
        assert not any(word in said for word in COMPLAINTS), said
        return process.returncode, termios.tcgetattr(its) == before


def drain(terminal):
    """What it shows from here on."""
    while True:
        try:
            os.read(terminal, 65536)
        except OSError:
            return


@case("top: two signals at once end it there and then, and give the terminal back", timeout=90)
def two_signals():
    """As who presses ^C twice."""
    ends = [top_ended_by(gap) for gap in (0, 0.01, 0.03)]
    assert all(restored for _, restored in ends) and any(status == 130 for status, _ in ends), ends


@case("two threads on one connection: each has its own timeout")
def threads():
    """Whoever waits for the other's call is told that the connection is busy."""
    with tempfile.TemporaryDirectory() as folder:
        vm = FakeVM(folder, "vm", behave=only_submits(hang))
        library = Library()
        conn = library.connect(vm.path)
        slow = []
        with Late() as late:
            begin = time.monotonic()
            thread = threading.Thread(target=lambda: slow.append(library.call(conn, 7000)))
            thread.start()
            time.sleep(0.3)
            results = {}
            for name, ask in (("call", lambda: library.call(conn, 200)),
                              ("query", lambda: library.timed("rvmrpc_query", conn, 200)),
                              ("next_event", lambda: library.timed("rvmrpc_next_event", conn, 200))):
                start = time.monotonic()
                seconds, code = ask()
                results[name] = seconds, code, late.between(start, time.monotonic())
            thread.join()
            away = late.between(begin, time.monotonic())
        comment(f"{results}; the slow one {slow}, the machine {away:.3f} s late")
        for name, (seconds, code, lost) in results.items():
            assert 0.15 < seconds < 0.7 + lost and code == BUSY, (name, seconds, code, lost)
        assert 6.7 < slow[0][0] < 7.5 + away, (slow, away)
        library.lib.rvmrpc_conn_free(conn)
        vm.close()


def reply(command):
    """What a VM behind libvirt answers to a QMP command."""
    if command["execute"] == "guest-kernel-call":
        arguments = command["arguments"]
        data = sysinfo(arguments["procedure"], 0) if arguments["module"] == 2 else b""
        return {"status": "ok", "data": base64.b64encode(data).decode(), "elapsed-ns": 5}
    return {"running": True, "status": "running"} if command["execute"] == "query-status" else \
        {"state": "connected"}


# How virsh behaves: Python, with its answer in text. It ends by itself after a while, for the machine's sake.
VIRSH = {
    "fine": "print(text)",
    "warns": "print('error: a warning of no weight', file=sys.stderr); print(text)",
    "lingers": "print(text); sys.stdout.flush(); os.close(1); os.close(2); time.sleep(20)",
    "hangs": "time.sleep(20)",
    "child": "print(text); sys.stdout.flush(); os.fork() or time.sleep(20)",
    "fails": "print('error: no such domain', file=sys.stderr); sys.exit(1)",
}


class Virsh:
    """A virsh in a folder of its own, for $PATH."""

    def __init__(self, behaviour):
        self.folder = tempfile.TemporaryDirectory()
        path = pathlib.Path(self.folder.name, "virsh")
        path.write_text(
            f"#!{sys.executable}\nimport json, os, sys, time\n"
            f"sys.path[:0] = {[str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1] / 'vm')]}\n"
            "from bounds import reply\n"
            "words = sys.argv[1:]\n"
            "open(os.path.join(os.path.dirname(sys.argv[0]), 'words'), 'a').write(repr(words) + '\\n')\n"
            "if 'domuuid' in words:\n    print('8e3e1e0e-0000-4000-8000-000000000001')\n    sys.exit()\n"
            "text = json.dumps({'return': reply(json.loads(words[-1])), 'id': 'libvirt-9'})\n"
            f"{behaviour}\n", encoding="utf-8")
        path.chmod(0o755)

    def run(self, *args):
        """The command, which has no other way to a VM."""
        return rvmrpc(*args, folder="/nonexistent", PATH=f"{self.folder.name}:{os.environ['PATH']}")

    def words(self):
        """How virsh was called."""
        return pathlib.Path(self.folder.name, "words").read_text(encoding="utf-8")


def part_of_large(frame):
    """What a guest answers whose slots hold less than the file (struct rvmrpc_file_res)."""
    offset, length = struct.unpack_from("<QI", frame.payload)
    return struct.pack("<IIQQQ", 0, 0, len(LARGE), 7, 0) + LARGE[offset:offset + min(length, PART)]


def without_threads(folder, *words):
    """The command of a user who may have no thread but its first; (exit status, all output)."""
    def become():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    # LeakSanitizer would need a thread.
    env = dict(os.environ, LC_ALL="C.UTF-8", ASAN_OPTIONS="detect_leaks=0", RVMRPC_PATH=folder)
    done = subprocess.run([RVMRPC, "-t", "10000", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=env, preexec_fn=become, timeout=20, check=False)
    text = done.stdout.decode()
    assert not any(word in text for word in COMPLAINTS) and done.returncode >= 0, (words, done.returncode, text)
    return done.returncode, text


@case("a host that allows no more threads: what can be asked is asked, the rest says why")
def no_threads():
    """GLib's pools waited for ever, and its threads ended the program."""
    if os.geteuid():
        raise Skip("needs root to become somebody else")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        vms = [FakeVM(folder, name) for name in ("one", "two")]
        vms.append(FakeVM(folder, "file", behave=procedures({READ_FILE: part_of_large})))
        for vm in vms:
            os.chmod(vm.path, 0o666)
        status, text = without_threads(folder, "list")
        assert status == 0 and "one" in text and "two" in text, (status, text)
        status, text = without_threads(folder, "meminfo", "two")
        assert status == 0, (status, text)
        status, text = without_threads(folder, "doctor", "one")
        assert status == 0, (status, text)
        status, text = without_threads(folder, "watch", "-n", "1")
        assert status == 1 and "ulimit -u" in text, (status, text)
        status, text = without_threads(folder, "cat", "file", "/f")
        assert status == 0 and text == LARGE.decode(), (status, text[:200], len(text))
        for vm in vms:
            vm.close()


# Of a domain that is another one at each look. It refuses to define one.
CHANGING = """#!/bin/sh
cd "$(dirname "$0")"
case "$*" in
*domstate*) echo shut off ;;
*dominfo*) echo "Persistent:     yes" ;;
*dumpxml*) echo >> asked; echo "<domain type='qemu'><name>dom</name><uuid>9f2c1a9e-7c1b-4e56-8a53-0a1b2c3d4e5f</uuid>"
    echo "<title>$(wc -l < asked)</title><devices/></domain>" ;;
*define*) : > defined; exit 1 ;;
esac
"""


@case("attach: a domain that somebody else changes meanwhile stays as he has it")
def changed():
    """Who is asked whether it shall be changed may take long to say so."""
    with tempfile.TemporaryDirectory() as folder:
        virsh = pathlib.Path(folder) / "virsh"
        virsh.write_text(CHANGING, encoding="utf-8")
        virsh.chmod(0o755)
        result = rvmrpc("attach", "dom", "--yes", "--device", "rvmrpc", PATH=f"{folder}:{os.environ['PATH']}")
        assert result.status == 1 and "changed it meanwhile" in result.err and not (virsh.parent / "defined").exists(), result


@case("through libvirt: a warning on virsh's stderr spoils nothing")
def warnings():
    """Its words are for when it fails."""
    for behaviour in ("fine", "warns"):
        result = Virsh(VIRSH[behaviour]).run("meminfo", "dom", "-t", 20000, "--json")
        assert result.status == 0 and result.json()["total"] == MEMORY[1], (behaviour, result)
    result = Virsh(VIRSH["fails"]).run("meminfo", "dom", "-t", 20000)
    assert result.status == 4 and "libvirt says: error: no such domain" in result.err, result


@case("through libvirt: a number is no id of virsh's, which is any domain's")
def numbers():
    """libvirt's own test driver has one that is called test, with id 1; nobody in it can be asked."""
    env = {"LIBVIRT_DEFAULT_URI": "test:///default"}
    result = rvmrpc("meminfo", "test", **env)
    if "not supported by the connection driver" not in result.err:
        raise Skip("no virsh with libvirt's test driver")
    result = rvmrpc("meminfo", "1", **env)
    assert result.status == 3 and "no VM 1" in result.err, result
    result = rvmrpc("attach", "1", "--dry-run", "--device", "ivshmem", **env)
    assert result.status == 3 and "to virsh that is test" in result.err, result
    result = rvmrpc("attach", "test", "--dry-run", "--device", "ivshmem", **env)
    assert result.status == 0 and "test.ivshmem" in result.out, result


@case("through libvirt: a name is no option of virsh's")
def dashes():
    """Nor a UUID that a process names."""
    virsh = Virsh(VIRSH["fine"])
    assert virsh.run("meminfo", "-t", 20000, "--", "-dom").status == 0
    assert "'domuuid', '--', '-dom'" in virsh.words(), virsh.words()
    assert "'qemu-monitor-command', '--', '8e3e1e0e" in virsh.words(), virsh.words()


@case("through libvirt: names go with the call, for QEMU to find")
def names():
    """It holds them against the guest's list. As JSON, whatever is in them."""
    virsh = Virsh(VIRSH["fine"])
    assert virsh.run("call", "dom", 'te"st', "big", "-t", 20000).status == 0
    assert virsh.run("call", "dom", "0x101", "3", "-t", 20000).status == 0
    calls = [json.loads(ast.literal_eval(line)[-1]) for line in virsh.words().splitlines() if "guest-kernel" in line]
    assert [(c["arguments"]["module"], c["arguments"]["procedure"]) for c in calls] == \
        [('te"st', "big"), (0x101, 3)], calls


@case("through libvirt: a virsh that does not end costs the timeout", timeout=90)
def unending():
    """Also when it has answered, or has a child that holds its output."""
    for behaviour in ("hangs", "lingers", "child"):
        result = Virsh(VIRSH[behaviour]).run("meminfo", "dom", "-t", 1500)
        assert result.status == 6 and 1.2 < result.seconds < 5, (behaviour, result)


@case("a virsh that does not say whether it knows a name has not said no")
def no_word():
    """Nor has it for who did not wait."""
    with tempfile.TemporaryDirectory() as folder:
        virsh = pathlib.Path(folder, "virsh")
        virsh.write_text("#!/bin/sh\nexec sleep 20\n", encoding="ascii")
        virsh.chmod(0o755)
        env = {"PATH": f"{folder}:{os.environ['PATH']}"}
        result = rvmrpc("meminfo", "dom", folder="/nonexistent", **env)
        assert result.status == 6 and "virsh does not answer" in result.err and result.seconds < 10, result
        with subprocess.Popen([RVMRPC, "meminfo", "dom"], env=environment("/nonexistent", **env), stderr=subprocess.PIPE) as process:
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130 and not process.stderr.read()


class Monitor:
    """QMP's, at a path of its own: events before each of its answers; the last ones come alone."""

    def __init__(self, folder):
        self.path, self.events = os.path.join(folder, "qmp.sock"), 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.connection = None
        threading.Thread(target=self._serve, daemon=True).start()

    def tell(self, count=1):
        """Events, each with a number of its own."""
        for _ in range(count):
            self.events += 1
            self._send({"event": "GUEST_KERNEL_EVENT", "data": {"type": "oops", "pid": self.events}})

    def _send(self, what):
        self.connection.sendall(json.dumps(what).encode() + b"\n")

    def _serve(self):
        while True:
            self.connection, _ = self.listener.accept()
            # Who looks for our own protocol first does not hear all of it.
            with contextlib.suppress(OSError):
                self._send({"QMP": {}})
                while command := self.connection.recv(65536):
                    self._answer(command)

    def _answer(self, command):
        if not command.startswith(b"{"):
            self._send({"error": {"class": "GenericError", "desc": "no JSON"}})
            return
        command = json.loads(command)
        self.tell(100)
        self._send({"return": {} if command["execute"] == "qmp_capabilities" else reply(command), "id": command["id"]})


@case("by QMP: events are kept for who asks for them, and told from then on")
def monitor_events():
    """Who never asks would keep them for ever."""
    library = Library()
    with tempfile.TemporaryDirectory() as folder:
        monitor = Monitor(folder)
        conn = library.connect(monitor.path)
        error = ctypes.POINTER(GError)()
        assert library.lib.rvmrpc_query(conn, 5000, None, ctypes.byref(error)), error.contents.message
        assert library.timed("rvmrpc_next_event", conn, 1000)[1] == TIMED_OUT and monitor.events
        monitor.tell()
        event = library.lib.rvmrpc_next_event(conn, 5000, None, ctypes.byref(error))
        assert json.loads(ctypes.string_at(event))["data"]["pid"] == monitor.events
        # Those that come beside an answer are told as well, now.
        assert library.lib.rvmrpc_query(conn, 5000, None, ctypes.byref(error)), error.contents.message
        event = library.lib.rvmrpc_next_event(conn, 5000, None, ctypes.byref(error))
        assert json.loads(ctypes.string_at(event))["data"]["pid"] == monitor.events - 199
        library.lib.rvmrpc_conn_free(conn)


@case("several calls at a time: an argument that no frame holds is TOO_BIG, and ends no other call")
def large_argument():
    """As it is by rvmrpc_call()."""
    library = Library()
    glib = ctypes.CDLL("libglib-2.0.so.0")
    glib.g_bytes_new.restype = library.lib.rvmrpc_calls_new.restype = ctypes.c_void_p
    codes = []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(GError), ctypes.c_void_p)
    def done(_answer, error, data):
        codes.append((data, error.contents.code if error else 0))

    with Fakes() as fakes:
        conn = library.connect(fakes.add("one").path)
        large = ctypes.c_void_p(glib.g_bytes_new(bytes((1 << 20) + 1), ctypes.c_size_t((1 << 20) + 1)))
        error = ctypes.POINTER(GError)()
        calls = ctypes.c_void_p(library.lib.rvmrpc_calls_new(conn, None, ctypes.byref(error)))
        for data, arg in ((1, None), (2, large), (3, None)):
            library.lib.rvmrpc_calls_submit(calls, 1, 0, arg, 5000, done, ctypes.c_void_p(data))
        glib.g_bytes_unref(large)
        while len(codes) < 3:
            glib.g_main_context_iteration(None, 1)
        library.lib.rvmrpc_calls_free(calls)
    assert sorted(codes) == [(1, 0), (2, TOO_BIG), (3, 0)], codes


def resident():
    """MiB of this process."""
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path("/proc/self/status").read_text(encoding="ascii"))[1]) >> 10


@case("several calls at a time: what was sent is not kept, however long there is more", timeout=120)
def steady_stream():
    """As of a large file through nc: it took as much memory as was sent."""
    library = Library()
    glib = ctypes.CDLL("libglib-2.0.so.0")
    glib.g_bytes_new.restype = library.lib.rvmrpc_calls_new.restype = ctypes.c_void_p
    left = [12000]

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(GError), ctypes.c_void_p)
    def done(_answer, error, _data):
        assert not error, error.contents.message
        left[0] -= 1
        if left[0] > 20:
            submit()

    def submit():
        library.lib.rvmrpc_calls_submit(calls, 3, 1, part, 60000, done, None)

    with Fakes() as fakes:
        conn = library.connect(fakes.add("one").path)
        part = ctypes.c_void_p(glib.g_bytes_new(bytes(65000), ctypes.c_size_t(65000)))
        calls = ctypes.c_void_p(library.lib.rvmrpc_calls_new(conn, None, ctypes.byref(ctypes.POINTER(GError)())))
        before = resident()
        for _ in range(21):
            submit()
        while left[0] > 0:
            glib.g_main_context_iteration(None, 1)
        after = resident()
        library.lib.rvmrpc_calls_free(calls)
        glib.g_bytes_unref(part)
    comment(f"{before} MiB before 780 MB were sent, {after} MiB after")
    assert after - before < 24


@case("nc: a VM that goes between the first look and the connection ends it")
def nc_in_between():
    """It waited for ever."""
    with Fakes() as fakes:
        def go(_frame):
            fakes.vms.remove(vm)
            vm.listener.shutdown(socket.SHUT_RDWR)
            vm.listener.close()
            os.unlink(vm.path)
            return bytes(16)
        vm = fakes.add("goes", behave=procedures({(16, 0): go}))
        result = fakes.run("nc", "goes", "127.0.0.1:7", timeout=15)
        assert result.status == 4 and "goes: cannot connect" in result.err, result


@case("info: a list that was not had is not an empty one")
def no_list():
    """It says why; all the rest is told."""
    with Fakes() as fakes:
        fakes.add("denies", behave=procedures({(0, 1): 6}))
        fakes.add("short", behave=procedures({(0, 1): struct.pack("<II", 3, 0)}))
        for name, why in (("denies", "allow-list"), ("short", "malformed")):
            info = fakes.run("info", name, "--json").json()
            assert info["state"] == "connected" and "modules" not in info and why in info["error"], info
            result = fakes.run("info", name)
            assert result.status == 0 and "channel:" in result.out and why in result.err, result
        # No answer is none, either.
        assert fakes.run("call", "short", "any", "any").status == 9


@case("0 is no time to wait, and no interval")
def no_time():
    """It was taken for the usual one."""
    with Fakes() as fakes:
        fakes.add("one")
        for option in (("-t", 0), ("-t", -1), ("-t", 60001), ("-i", 0), ("-i", -1), ("-i", "nan")):
            result = fakes.run("watch", "one", "-n", 1, *option)
            assert result.status == 2 and "must be from" in result.err, (option, result)


@case("call: on a terminal an answer does not end at its first NUL")
def binary_answer():
    """What cannot be shown is marked."""
    with Fakes() as fakes:
        fakes.add("one", behave=procedures({(0x100, 1): b"before\0after\n"}))
        terminal, other = pty.openpty()
        done = subprocess.run([RVMRPC, "-t", "10000", "call", "one", "0x100", "1"], stdin=subprocess.DEVNULL, stdout=other,
                              env=environment(fakes.folder), timeout=30, check=True)
        os.close(other)
        assert "before\ufffdafter" in os.read(terminal, 100).decode(), done
        os.close(terminal)


@case("a socket whose path is no UTF-8 spoils nobody's JSON")
def odd_path():
    """A program that reads the list would have none of it."""
    with Fakes() as fakes:
        fakes.vms.append(FakeVM(fakes.folder, "odd\udcff\x1b", name="odd"))
        fakes.add("plain")
        assert {vm["name"]: vm["socket"].rpartition("/")[2] for vm in fakes.run("list", "--json").json()} == \
            {"odd": "odd\ufffd\x1b.sock", "plain": "plain.sock"}
        done = subprocess.run([RVMRPC, "top", "--json", "-n", "1", "-i", "0.1"], stdout=subprocess.PIPE,
                              env=environment(fakes.folder), timeout=30, check=True)
        assert json.loads(done.stdout.decode())["vms"], done


if __name__ == "__main__":
    main(guests=False)
