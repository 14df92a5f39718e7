#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Who gets a place at a VM's socket: rvmrpcd's, which needs no VM for that. QEMU's is the same code.

And what rvmrpcd does when it reads its files again.
"""
import multiprocessing
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / name) for name in ("vm", "stock")]

# pylint: disable=wrong-import-position
from harness import BUILD, Skip, case, main, wait_for  # noqa: E402
from harness.sock import ERROR, INFO, SUBSCRIBE, SocketClient  # noqa: E402
from fdstore import FDStore  # noqa: E402
from tools import RVMRPC, environment  # noqa: E402

RVMRPCD = BUILD / "host-tools" / "rvmrpcd-asan"
PLACES, IDLE = 64, 10
NOBODY = 65534


class Daemon:
    """rvmrpcd with one VM, whose socket everyone may open."""

    def __init__(self, *options):
        self.folder = tempfile.TemporaryDirectory(prefix="rvmrpc-places-")
        os.chmod(self.folder.name, 0o755)
        self.path = pathlib.Path(self.folder.name, "web.sock")
        config = pathlib.Path(self.folder.name, "conf")
        config.write_text(f"[daemon]\nsocket-dir={self.folder.name}\nivshmem-dir={self.folder.name}\n"
                          f"vm-dir={self.folder.name}/none\nsocket-mode=0666\n", encoding="ascii")
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [RVMRPCD, "-c", config, "--vm", "name=web", *options], env=environment(), stderr=subprocess.PIPE, text=True)
        self.clients = []

    def __enter__(self):
        wait_for(self.path.exists, 20, "the daemon")
        return self

    def __exit__(self, kind, *_):
        for client in self.clients:
            client.close()
        self.process.terminate()
        _, err = self.process.communicate(timeout=20)
        assert kind or self.process.returncode == 0 and "Sanitizer" not in err, err

    def client(self):
        """One more connection."""
        self.clients.append(SocketClient(self.path))
        return self.clients[-1]


def served(client):
    """None, or why it is not."""
    try:
        client.send(3)
    except OSError:
        pass        # refused already; what was said can still be read
    frame = client.recv(5)
    assert frame.kind in (INFO, ERROR), vars(frame)
    return None if frame.kind == INFO else frame.payload.decode()


def greeting(path):
    """A connection as QEMU's, and the first number that it is told: the protocol's version."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(str(path))
    return sock, int.from_bytes(sock.recv(8, socket.MSG_WAITALL), "little")


@case("a VM's ivshmem socket has three QEMUs at a time; the next is refused")
def qemus():
    """And has a window when one of them has gone."""
    with Daemon() as daemon:
        path = daemon.path.with_suffix(".ivshmem")
        peers = [greeting(path) for _ in range(3)]
        assert [version for _, version in peers] == [0, 0, 0], peers
        fourth, version = greeting(path)
        assert version == 2**63 - 1 and not fourth.recv(8), version
        fourth.close()
        peers.pop()[0].close()

        def room():
            peers.append(greeting(path))
            return peers[-1][1] == 0

        wait_for(room, 5, "a window for one more")
        for peer, _ in peers:
            peer.close()


@case("idle connections lose their place to who needs one", timeout=60)
def idle():
    """After a while; never those that ask, or that wait for events."""
    with Daemon() as daemon:
        clients = [daemon.client() for _ in range(PLACES)]
        asks, waits, *others = clients
        for client in others:
            assert served(client) is None
        waits.query(SUBSCRIBE)
        start = time.monotonic()
        assert served(daemon.client()) == "too many clients"
        while time.monotonic() < start + IDLE + 0.5:
            assert served(asks) is None
            time.sleep(0.5)
        late = [daemon.client() for _ in range(5)]
        assert [served(client) for client in late] == [None] * 5
        gone = [client.recv(5) for client in others[:5]]
        assert all(frame.kind == ERROR and b"idle" in frame.payload for frame in gone)
        assert served(asks) is None and served(others[5]) is None
        assert waits.query()["protocol"] == 1
        # The newcomers are not idle for long enough, others are.
        for _ in range(PLACES - 2 - 5 - 1):
            assert served(daemon.client()) is None
        assert served(daemon.client()) == "too many clients"


def as_nobody(path, answers):
    """In a process of its own: connections of another user, and how each fared."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    clients = [SocketClient(path) for _ in range(40)]
    answers.put([served(client) for client in clients])
    end = time.monotonic() + IDLE + 2
    while time.monotonic() < end:
        for client in clients[:PLACES // 2]:
            assert served(client) is None
        time.sleep(0.5)
    answers.put(served(SocketClient(path)))
    time.sleep(60)


@case("one user does not take all places", timeout=120)
def share():
    """Half of them, as long as the others are free; root and others get in, and are not put out for who has his share."""
    if os.geteuid():
        raise Skip("needs root to become somebody else")
    with Daemon() as daemon:
        answers = multiprocessing.Queue()
        process = multiprocessing.Process(target=as_nobody, args=(daemon.path, answers))
        process.start()
        try:
            got = answers.get(timeout=30)
            assert got == [None] * (PLACES // 2) + ["too many clients of one user"] * (40 - PLACES // 2), got
            assert [served(daemon.client()) for _ in range(PLACES // 2)] == [None] * (PLACES // 2)
            assert answers.get(timeout=60) == "too many clients of one user"
            assert [served(client) for client in daemon.clients] == [None] * (PLACES // 2)
        finally:
            process.kill()
            process.join()


@case("a VM's sockets are its own groups', where it has such")
def groups():
    """Else the daemon's."""
    if os.geteuid():
        raise Skip("needs root to give files away")
    with Daemon("--vm", "name=own,ivshmem-group=1234,socket-group=1235") as daemon:
        folder = pathlib.Path(daemon.folder.name)
        wait_for((folder / "own.ivshmem").exists, 10, "the other VM")
        assert [(folder / name).stat().st_gid for name in ("own.ivshmem", "own.sock", "web.ivshmem", "web.sock")] == [
            1234, 1235, os.getegid(), os.getegid()]


def window_of(sock):
    """Bytes of the window that it gives to whom it takes for a QEMU; the connection stays."""
    while True:
        value, fds, _, _ = socket.recv_fds(sock, 8, 1)
        sizes = [os.fstat(fd).st_size for fd in fds]
        for fd in fds:
            os.close(fd)
        if int.from_bytes(value, "little", signed=True) == -1:
            return sizes[0]


@case("a VM's file that is read again: its UUID holds at once, its sizes from QEMU's next start")
def reread():
    """The QEMU that is there keeps its window."""
    uuids = [f"52564d52-0000-4000-9000-00000000000{n}" for n in (1, 2)]
    with Daemon() as daemon, socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        folder = pathlib.Path(daemon.folder.name)
        (folder / "none").mkdir()

        def now(uuid, size):
            (folder / "none" / "own.conf").write_text(f"[vm]\nname=own\nuuid={uuid}\nsize={size}\n", encoding="ascii")
            daemon.process.send_signal(signal.SIGHUP)

        def known():
            with SocketClient(folder / "own.sock") as client:
                return client.query()["vm"]["uuid"]

        now(uuids[0], "512K")
        wait_for((folder / "own.ivshmem").exists, 10, "the new VM")
        assert known() == uuids[0]
        first.connect(str(folder / "own.ivshmem"))
        assert window_of(first) == 512 << 10
        now(uuids[1], "1M")
        wait_for(lambda: known() == uuids[1], 10, "its other UUID")
        second.connect(str(folder / "own.ivshmem"))
        assert window_of(second) == 1 << 20
        first.setblocking(False)
        try:
            assert first.recv(8), "the first QEMU lost its connection"
        except BlockingIOError:
            pass


@case("where the folder of VMs cannot be read, a reload takes none away")
def unreadable():
    """Here it is a file for a while. One that is not there has no VMs."""
    with Daemon() as daemon:
        folder = pathlib.Path(daemon.folder.name)
        own, mark = folder / "own.ivshmem", folder / "mark.ivshmem"

        def reload():
            daemon.process.send_signal(signal.SIGHUP)

        (folder / "none").mkdir()
        (folder / "none" / "own.conf").write_text("[vm]\nname=own\n", encoding="ascii")
        reload()
        wait_for(own.exists, 10, "the VM")
        (folder / "none").rename(folder / "some")
        (folder / "none").touch()
        reload()
        time.sleep(0.5)
        assert own.exists()
        (folder / "none").unlink()
        (folder / "some" / "mark.conf").write_text("[vm]\nname=mark\n", encoding="ascii")
        (folder / "some").rename(folder / "none")
        reload()
        wait_for(mark.exists, 10, "another VM")
        assert own.exists()
        (folder / "none").rename(folder / "some")
        reload()
        wait_for(lambda: not own.exists() and not mark.exists(), 10, "the end of both")


@case("a VM whose file was away while the daemon started anew is itself again once the file is back")
def away():
    """Meanwhile nobody has verified who it is, and no other QEMU can come."""
    uuid = "52564d52-0000-4000-9000-000000000001"
    with tempfile.TemporaryDirectory(prefix="rvmrpc-places-") as name, socket.socket(socket.AF_UNIX) as qemu:
        folder, store = pathlib.Path(name), FDStore(name)
        path = str(folder / "own.ivshmem")
        (folder / "conf").write_text(f"[daemon]\nsocket-dir={name}\nivshmem-dir={name}\nvm-dir={name}/vms\n",
                                     encoding="ascii")
        (folder / "vms").mkdir()
        (folder / "vms" / "own.conf").write_text(f"[vm]\nname=own\nuuid={uuid}\n", encoding="ascii")

        def start():
            store.clear()
            process = store.popen([RVMRPCD, "-c", folder / "conf"], environment())
            assert store.wait("READY=1", 20)
            return process

        def stop(process):
            process.terminate()
            assert process.wait(20) == 0

        def who():
            with SocketClient(folder / "own.sock") as client:
                return client.query()["vm"]

        try:
            process = start()
            qemu.connect(path)
            window_of(qemu)
            wait_for(lambda: len(store.names()) == 4, 10, "what the store shall have")
            stop(process)
            (folder / "vms").rename(folder / "elsewhere")
            process = start()
            assert who()["unverified"] and who()["pid"] == os.getpid() and not os.path.exists(path)
            (folder / "elsewhere").rename(folder / "vms")
            process.send_signal(signal.SIGHUP)
            wait_for(lambda: os.path.exists(path), 10, "the place for its QEMU's next start")
            assert who() == {"name": "own", "uuid": uuid, "pid": os.getpid()}
            qemu.close()
            wait_for(lambda: "pid" not in who(), 10, "its end")
            with socket.socket(socket.AF_UNIX) as again:
                again.connect(path)
                assert window_of(again) == 512 << 10
            stop(process)
        finally:
            process.kill()
            store.close()


# In a /run of its own: the daemon as it is installed, the command, and somebody of QEMU's group.
INSTALLED = """mount -t tmpfs -o mode=755 tmpfs /run
"$1" --vm name=places-web 2>/dev/null & daemon=$!
until [ -S /run/rvmrpcd/places-web.sock ]; do sleep 0.1; done
stat -c '%U %a' /run/rvmrpcd
"$2" list --json | grep -c '"socket" : "/run/rvmrpcd/places-web.sock"'
setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '
    rm -f /run/rvmrpcd/places-web.sock
    ln -s /dev/null /run/rvmrpcd/places-new.ivshmem
    mv /run/rvmrpcd/places-web.ivshmem /tmp' 2>/dev/null
ls /run/rvmrpcd
kill $daemon
wait $daemon"""


@case("nobody but root replaces rvmrpcd's sockets, where it has them unless told")
def folders():
    """And the command finds them there."""
    if os.geteuid():
        raise Skip("needs root for a /run of its own")
    done = subprocess.run(["timeout", "30", "unshare", "--mount", "--propagation", "private", "sh", "-c", INSTALLED, "sh",
                           RVMRPCD, RVMRPC], stdout=subprocess.PIPE, text=True, check=False, env=environment())
    assert done.returncode == 0 and done.stdout.split("\n") == [
        "root 755", "1", "places-web.ivshmem", "places-web.sock", ""], done


if __name__ == "__main__":
    main(guests=False)
