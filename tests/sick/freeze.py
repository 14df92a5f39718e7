# SPDX-License-Identifier: GPL-2.0-or-later
"""File systems that are frozen for a copy go on, whatever became of who froze them."""
import os
import signal
import struct
import subprocess
import time

from ward import ALLOW, FOLDER, guest, rvmrpc
from harness import call, case, comment, wait_for
from harness.sock import SocketClient
from stand import Served
import tools

FREEZE, STATUS = (13, 0), (13, 2)
FROZEN, EXPIRED = 2, 3
FOR_MS = 6000


class Writer:
    """In the guest: it writes without end, and its file grows."""

    def __init__(self, vm):
        self.vm = vm
        vm.guest.check("(while :; do echo x >> /data/log; done) > /dev/null 2>&1 & echo $! > /tmp/writer")
        self.wait(10)

    def size(self):
        """Of what it has written."""
        return int(self.vm.guest.check("stat -c %s /data/log 2>/dev/null || echo 0"))

    def stands(self, seconds=0.7):
        """For so long. What was under way when the freeze came has ended."""
        before = self.size()
        time.sleep(seconds)
        return self.size() == before

    def wait(self, seconds):
        """For it to go on."""
        start, before = time.monotonic(), self.size()
        wait_for(lambda: self.size() > before, seconds, "a write")
        return time.monotonic() - start

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.vm.guest.run("kill $(cat /tmp/writer); rm -f /data/log")


def thaws_by_itself(writer, start):
    """It stands now, and goes on when its time is over."""
    assert writer.stands(), "it writes"
    writer.wait(15)
    took = time.monotonic() - start
    comment(f"frozen for {took:.1f} s of {FOR_MS / 1e3}")
    # From before the command was begun, which a busy machine may be late with, as with the write.
    assert FOR_MS / 1e3 - 0.5 < took < FOR_MS / 1e3 + 6, took


def wait_state(wanted, ask):
    """For what the guest says of its freeze, when it is asked: of several file systems one goes on first."""
    def check():
        status, answer = ask()
        assert status == "ok", status
        return struct.unpack_from("<I", answer)[0] == wanted
    wait_for(check, 10, f"state {wanted}")


@case("writes stop, and go on when they are told to", timeout=120)
def thaw():
    """By the command, as a backup does it."""
    vm = guest()
    with Writer(vm) as writer:
        assert rvmrpc("freeze", "--for", 60).out.startswith("frozen: 2 file systems")
        try:
            assert writer.stands(1.5)
        finally:
            done = rvmrpc("thaw")
        assert done.out.startswith("thawed: 2 file systems, 0 skipped, 0 lost"), done
        comment(f"{writer.wait(5):.2f} s after thaw")


@case("the backup is killed: the guest goes on by itself")
def killed():
    """kill -9 of the script that would have thawed it."""
    vm = guest()
    with Writer(vm) as writer:
        script = f"{tools.RVMRPC} freeze sick --for {FOR_MS // 1000} && echo frozen && sleep 60; {tools.RVMRPC} thaw sick"
        start = time.monotonic()
        with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True,
                              env=tools.environment(FOLDER.name)) as backup:
            while backup.stdout.readline() != "frozen\n":
                assert backup.poll() is None
            os.killpg(backup.pid, signal.SIGKILL)
        thaws_by_itself(writer, start)
    wait_state(EXPIRED, lambda: call(vm.qmp, "freeze", "status"))


@case("the socket closes before the answer is read: the guest goes on by itself")
def closed():
    """Nobody was told that it is frozen."""
    vm = guest()
    with Writer(vm) as writer:
        with SocketClient(f"{FOLDER.name}/sick.sock") as client:
            start = time.monotonic()
            client.submit(*FREEZE, struct.pack("<II", FOR_MS, 0), timeout=10000)
            wait_state(FROZEN, lambda: call(vm.qmp, "freeze", "status"))
        thaws_by_itself(writer, start)
    wait_state(EXPIRED, lambda: call(vm.qmp, "freeze", "status"))


@case("rvmrpcd is killed, on Debian's QEMU: the guest goes on by itself", timeout=120)
def daemon_killed():
    """With no daemon to ask; the next one hears what became of it."""
    with Served(memory="256M", append=f"{tools.PATIENT} {ALLOW}") as vm:
        vm.guest.check("mkdir /data; modprobe -a crc32c_generic ext4 loop; dd if=/dev/zero of=/tmp/image bs=1M count=16 "
                       "2>/dev/null; mke2fs -F /tmp/image > /dev/null; mount -o loop /tmp/image /data", timeout=60)
        with Writer(vm) as writer:
            start = time.monotonic()
            assert vm.daemon.ok("freeze", "web", "--for", FOR_MS // 1000).out.startswith("frozen: 1 file systems")
            vm.daemon.kill()
            thaws_by_itself(writer, start)
        vm.daemon.start()
        vm.wait_state("connected", 20)
        with vm.daemon.client("web") as client:
            wait_state(EXPIRED, lambda: client.call(*STATUS, timeout=5000))
