#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Services of a guest that has no network device, reached from here: rvmrpc forward and nc, built with ASan."""
import contextlib
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "vm"), str(HERE.parent / "clients"), str(HERE.parent / "stock")]

# pylint: disable=wrong-import-position
from harness import VM, call, case, comment, main, set_parameter, shared, wait_connected, wait_for  # noqa: E402
from stand import Served  # noqa: E402
from tools import COMPLAINTS, PATIENT, RVMRPC, environment, rvmrpc  # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix="rvmrpc-forward-")
LONG = bool(os.environ.get("RVMRPC_LONG"))
MIB = 1 << 20
SERVICE = "127.0.0.1:7000"
RULES = "127.0.0.1:7000-7001,[::1]:7000"
ESTABLISHED, LISTEN = "01", "0A"


def serve(vm):
    """The guest's servers, which end with it."""
    vm.guest.check("ip link set lo up; for a in 127.0.0.1 ::1; do tcp-test $a 7000; done", timeout=30)


def guest():
    """One for most cases: its only interface is its loopback."""
    vm = shared(smp=2, memory="384M", device_opts=f"socket={FOLDER.name}/web.sock",
                append=f"{PATIENT} rvmrpc.connect_allow={RULES}", extra=["-name", "guest=web"])
    if not sockets(vm, LISTEN):
        serve(vm)
    return vm


def sockets(vm, state=ESTABLISHED, port=7000):
    """Those of the guest, of both ends, that have to do with the service."""
    lines = vm.guest.check("cat /proc/net/tcp /proc/net/tcp6", timeout=30).splitlines()
    rows = [line.split() for line in lines if ":" in line.split()[1]]
    return [row for row in rows if row[3] == state and f":{port:04X}" in (row[1][-5:], row[2][-5:])]


def count(data):
    """What the guest's count says of bytes."""
    return f"{len(data)} {zlib.crc32(data):08x}\n".encode()


def pattern(size):
    """What the guest's give sends."""
    return struct.pack(f"<{(size + 7) // 8}Q", *range((size + 7) // 8))[:size]


def take(sock, size=None, timeout=60):
    """So many bytes, or all until the end."""
    sock.settimeout(timeout)
    parts, have = [], 0
    while size is None or have < size:
        part = sock.recv(MIB if size is None else min(MIB, size - have))
        if not part:
            break
        parts.append(part)
        have += len(part)
    return b"".join(parts)


class Forward:
    """The command, listening at .port for a service of a guest."""

    def __init__(self, to=SERVICE, vm="web", folder=FOLDER.name):
        self.to, self.vm, self.folder = to, vm, folder
        self.errors = ""

    def __enter__(self):
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [RVMRPC, "forward", "-t", "10000", "0", self.vm, self.to], env=environment(self.folder), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("127.0.0.1:") and line.endswith(f" is {self.to} of {self.vm}\n"), (line, self.end())
        self.port = int(line.split()[0].rsplit(":", 1)[1])
        return self

    def connect(self, line=None):
        """A connection to the service, which is told what to do."""
        sock = socket.create_connection(("127.0.0.1", self.port), 30)
        if line is not None:
            sock.sendall(line.encode() + b"\n")
        return sock

    def files(self):
        """How many it has open; of a first connection it keeps those to the VM."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def end(self, how=signal.SIGTERM):
        """Its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.errors = self.process.communicate(timeout=30)[1]
        finally:
            self.process.kill()
        return self.process.returncode

    def __exit__(self, kind, *_):
        status = self.end()
        assert not any(word in self.errors for word in COMPLAINTS), self.errors
        assert kind or status in (0, -signal.SIGKILL), (status, self.errors)


def gone(vm, seconds=20):
    """Nothing of the service's connections is left in the guest."""
    wait_for(lambda: not sockets(vm), seconds, "the end of the guest's connections", interval=0.2)


def nc(text, to=SERVICE, **more):
    """The command's run."""
    return rvmrpc("nc", "web", to, folder=FOLDER.name, stdin=text, **more)


def is_broken(sock, timeout=30):
    """Whether it ends, well or not, with nothing more to be read."""
    sock.settimeout(timeout)
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


@case("nothing is allowed at first; what is no list of addresses and ports is refused", timeout=120)
def off():
    """By connect.open, whose other words are checked, too."""
    vm = guest()
    head = [1, bytes(10) + b"\xff\xff\x7f\0\0\1", 1, 0, 1, 7000, 0]

    def ask(**changed):
        words = [changed.get(str(i), word) for i, word in enumerate(head)]
        return call(vm.qmp, "connect", "open", struct.pack("<Q16sIIIHH", *words), 5000)[0]

    def ask_port(port):
        return ask(**{"5": port})

    assert ask_port(7000) == ask_port(7001) == "ok" and ask_port(7002) == ask_port(22) == "not-allowed"
    for bad in ({"0": 0}, {"2": 0}, {"4": 2}, {"5": 0}, {"6": 1}, {"3": 1}, {"1": bytes(16)}):
        assert ask(**bad) == "garbage-args", bad
    for bad in ("127.0.0.1", "localhost:22", "*:0", "::1:22", "*:22,"):
        assert vm.guest.run(f"echo '{bad}' > /sys/module/rvmrpc/parameters/connect_allow")[0], bad
    set_parameter(vm, "connect_allow", "")
    assert ask_port(7000) == "not-allowed"
    result = nc(b"", SERVICE)
    assert result.status == 8 and "connect_allow" in result.err, result
    set_parameter(vm, "connect_allow", RULES)


@case("an end, a failure and a mistake: a sentence and an exit status each", timeout=120)
def errors():
    """Of nc, and of forward."""
    guest()
    for to, status, text in (("127.0.0.1:7001", 1, "nobody listens"), ("127.0.0.1:22", 8, "connect_allow"),
                             ("[::2]:7000", 8, "connect_allow"), ("somewhere:22", 1, "no ADDRESS:PORT"),
                             ("127.0.0.1:0", 1, "no ADDRESS:PORT"), ("127.0.0.1", 1, "no ADDRESS:PORT")):
        result = nc(b"", to)
        assert result.status == status and text in result.err and result.out == "", result
    result = nc(b"reset\n")
    assert result.status == 1 and "broke" in result.err, result
    for words, status in ((("forward", "0", "nobody", SERVICE), 3), (("forward", "0", "web", "127.0.0.1:22"), 8),
                          (("forward", "x", "web", SERVICE), 2), (("forward", "192.0.2.1:0", "web", SERVICE), 1),
                          (("forward", "65536", "web", SERVICE), 2), (("nc", "web"), 2)):
        result = rvmrpc(*words, folder=FOLDER.name)
        assert result.status == status and result.err, result


@case("nc: each half ends by itself; IPv6 and localhost", timeout=120)
def by_nc():
    """Binary, and of some length."""
    vm = guest()
    data = random.Random(13).randbytes(300_000)
    for to in (SERVICE, "[::1]:7000", "localhost:7000"):
        result = subprocess.run([RVMRPC, "nc", "web", to], input=b"echo\n" + data, capture_output=True, timeout=60,
                                env=environment(FOLDER.name), check=True)
        assert result.stdout == data and not result.stderr, (to, len(result.stdout), result.stderr)
    assert nc(b"count\n" + data).out == count(data).decode()
    assert nc(b"quit\n").status == 0
    # The guest's end comes while ours is still to say something.
    with subprocess.Popen([RVMRPC, "nc", "web", SERVICE], env=environment(FOLDER.name), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        process.stdin.write(b"give 100000\n")
        process.stdin.flush()
        assert process.stdout.read() == pattern(100_000) and process.poll() is None
        process.stdin.close()
        assert process.wait(20) == 0
    # As ssh ends its ProxyCommand.
    with subprocess.Popen([RVMRPC, "nc", "web", SERVICE], env=environment(FOLDER.name), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        process.stdin.write(b"echo\nx")
        process.stdin.flush()
        assert process.stdout.read(1) == b"x"
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 130
    gone(vm)


@case("forward: many MiB each way are the same at the other end", timeout=600)
def volume():
    """100 MiB with RVMRPC_LONG."""
    vm = guest()
    size = (100 if LONG else 4) * MIB
    with Forward() as forward:
        for line, sent in ((f"give {size}", b""), ("count", pattern(size))):
            start = time.monotonic()
            with forward.connect(line) as sock:
                sock.settimeout(500)
                sock.sendall(sent)
                sock.shutdown(socket.SHUT_WR)
                got = take(sock, timeout=500)
            comment(f"{line.split()[0]}: {size / MIB / (time.monotonic() - start):.1f} MiB/s")
            assert got == (count(sent) if sent else pattern(size)), len(got)
        gone(vm)


@case("forward: 50 connections at once, each with its own bytes", timeout=300)
def many():
    """Opened all before the first is used; half of them end their half first."""
    vm = guest()
    with Forward() as forward:
        assert is_broken(forward.connect("quit"))
        gone(vm)
        before = forward.files()
        found = {}
        conns = [forward.connect() for _ in range(50)]
        wait_for(lambda: len(sockets(vm)) == 100, 60, "50 connections, of two ends each", interval=0.3)

        def use(i, sock):
            data = random.Random(i).randbytes(20_000)
            with sock:
                sock.sendall((b"echo\n" if i % 2 else b"count\n") + data)
                if i % 2:
                    found[i] = take(sock, len(data)) == data
                sock.shutdown(socket.SHUT_WR)
                found[i] = (take(sock) == b"" and found[i]) if i % 2 else take(sock) == count(data)

        threads = [threading.Thread(target=use, args=pair) for pair in enumerate(conns)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert len(found) == 50 and all(found.values()), found
        gone(vm)
        wait_for(lambda: forward.files() == before, 10, "the end of its files")


@case("forward: one that takes nothing holds up nobody, and little is kept for it", timeout=120)
def holds():
    """Its client, too, may take nothing. The guest's end tells."""
    vm = guest()
    with Forward() as forward:
        with forward.connect("hold") as held, forward.connect(f"give {400 * MIB}") as full:
            held.settimeout(1)
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < 64 * MIB:
                    sent += held.send(bytes(MIB))
            comment(f"{sent / MIB:.1f} MiB were taken")
            assert sent < 32 * MIB
            with forward.connect("echo") as other:
                start = time.monotonic()
                for i in range(10):
                    other.sendall(b"%d" % i)
                    assert take(other, 1) == b"%d" % i
                comment(f"{(time.monotonic() - start) * 100:.0f} ms each way and back")
            resident = int(pathlib.Path(f"/proc/{forward.process.pid}/statm").read_text().split()[1]) * 4096
            comment(f"{resident / MIB:.0f} MiB resident")
            assert full.recv(8) == bytes(8)
            # What was taken is still to be taken by the guest, unless it is forgotten.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone(vm)
        for line in ("quit", "reset"):
            with forward.connect(line) as sock:
                assert is_broken(sock)
    # Nobody listens: the local end is broken, and the command says why.
    with Forward("127.0.0.1:7001") as forward:
        with forward.connect() as sock:
            assert is_broken(sock)
    assert "nobody listens" in forward.errors, forward.errors


@case("three clients that wait leave workers to others, and hear of their news", timeout=120)
def waits():
    """Of three workers one waits; the other clients ask now and then."""
    vm = guest()
    with contextlib.ExitStack() as stack:
        conns = [stack.enter_context(stack.enter_context(Forward()).connect("echo")) for _ in range(3)]
        time.sleep(1)
        found = [call(vm.qmp, "procfs", "read", b"/proc/version", 10000)[0] for _ in range(40)]
        # A wait that is refused takes a worker for a moment, too.
        assert set(found) <= {"ok", "busy"} and found.count("ok") >= 30, found
        comment(f"{found.count('busy')} of {len(found)} calls were busy")
        for sock in 4 * conns:
            sock.sendall(b"x")
            assert take(sock, 1, 10) == b"x"
    gone(vm)


@case("SIGKILL of the command: the guest closes what it had", timeout=120)
def killed():
    """After connect_lease seconds."""
    vm = guest()
    set_parameter(vm, "connect_lease", 2)
    try:
        with Forward() as forward:
            conns = [forward.connect("echo") for _ in range(5)]
            wait_for(lambda: len(sockets(vm)) == 10, 20, "the connections", interval=0.2)
            start = time.monotonic()
            forward.end(signal.SIGKILL)
            gone(vm, 20)
            comment(f"{time.monotonic() - start:.1f} s")
            assert all(is_broken(sock) for sock in conns)
    finally:
        set_parameter(vm, "connect_lease", 30)


@case("suspend and rmmod with open connections: neither waits, and nothing is left", timeout=180)
def removed():
    """The command goes on."""
    vm = guest()
    # In which the kernel's test of a suspend would compute.
    vm.guest.check("echo 0 > /sys/module/suspend/parameters/pm_test_delay")
    with Forward() as forward:
        for command in ("echo devices > /sys/power/pm_test; echo mem > /sys/power/state; echo none > /sys/power/pm_test",
                        f"rmmod rvmrpc; insmod /lib/rvmrpc/rvmrpc.ko connect_allow={RULES}"):
            epoch = vm.query()["epoch"]
            with forward.connect("echo") as sock:
                sock.sendall(b"x")
                assert take(sock, 1) == b"x"
                start = time.monotonic()
                vm.guest.check(command, timeout=60)
                comment(f"{time.monotonic() - start:.1f} s")
                assert is_broken(sock)
            wait_connected(vm, epoch)
            gone(vm)
        with forward.connect("quit") as sock:
            assert is_broken(sock)


@case("a reset of the VM breaks what goes on, and the command goes on with the next guest", timeout=300)
def reset():
    """In the middle of bytes."""
    vm = guest()
    with Forward() as forward:
        assert is_broken(forward.connect("quit"))
        gone(vm)
        before = forward.files()
        epoch = vm.query()["epoch"]
        with forward.connect(f"give {400 * MIB}") as one, forward.connect("echo") as other:
            take(one, MIB)
            other.sendall(b"x")
            assert take(other, 1) == b"x"
            vm.qmp.cmd("system_reset")
            with contextlib.suppress(ConnectionError):
                while one.recv(MIB):
                    pass
            assert is_broken(other)
        wait_connected(vm, epoch, 200)
        vm.wait_ready()
        serve(vm)
        with forward.connect("count") as sock:
            sock.sendall(b"abc")
            sock.shutdown(socket.SHUT_WR)
            assert take(sock) == count(b"abc")
        wait_for(lambda: forward.files() <= before, 10, "the end of its files")


@case("by rvmrpcd, with a stock QEMU: SIGKILL of the daemon breaks connections, and leaves none", timeout=180)
def daemon():
    """The daemon comes again, the guest registers anew, the command goes on."""
    for vm in list(VM.live):
        vm.stop()
    vm = shared(Served, memory="256M", append=f"{PATIENT} rvmrpc.connect_allow={RULES}")
    serve(vm)
    with Forward(folder=vm.daemon.sockets) as forward:
        with forward.connect(f"give {4 * MIB}") as sock:
            assert take(sock, 4 * MIB) == pattern(4 * MIB)
        epoch = vm.query()["epoch"]
        with forward.connect("echo") as sock:
            sock.sendall(b"x")
            assert take(sock, 1) == b"x" and len(sockets(vm)) == 2
            vm.daemon.kill()
            assert is_broken(sock)
            vm.daemon.start()
            wait_connected(vm, epoch)
            gone(vm)
        with forward.connect("echo") as sock:
            sock.sendall(b"y")
            assert take(sock, 1) == b"y"
    gone(vm)


if __name__ == "__main__":
    main()
