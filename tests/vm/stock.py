#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Stock guests, with no rvmrpc device: they boot and run as ever."""
import pathlib
import socket
import subprocess
import tempfile

from harness import GuestShell, VM, case, main, wait_for
from harness.guest import knock


@case("pc, 6.12, one CPU", machine="pc", kernel="6.12", smp=1)
@case("q35, 6.12, two CPUs", machine="q35", kernel="6.12", smp=2)
@case("pc, 6.1, two CPUs", machine="pc", kernel="6.1", smp=2)
@case("q35, 6.1, one CPU", machine="q35", kernel="6.1", smp=1)
def boots(machine, kernel, smp):
    """The guest comes up, and its kernel found nothing of ours."""
    with VM(kernel, device=False, machine=machine, smp=smp) as vm:
        assert vm.guest.check("uname -r").startswith(kernel + ".")
        assert int(vm.guest.check("nproc")) == smp
        assert "rvmrpc" not in vm.guest.check("lsmod")
        devices = vm.guest.check("cat /sys/bus/pci/devices/*/device").split()
        assert devices and "0x10f0" not in devices


@case("a shell is found, whatever part of a first line it was too late for")
def finds_shell():
    """As a guest that opens its serial port in the midst of one."""
    for lost in range(len(knock()[0])):
        ours, its = socket.socketpair()
        with ours, its, subprocess.Popen(["busybox", "sh"], stdin=its, stdout=its,
                                         stderr=subprocess.STDOUT) as shell:
            try:
                ours.sendall(knock()[0][lost:])
                assert GuestShell(ours).sync(5).run("echo a 'b'") == (0, "a b\n"), lost
            finally:
                shell.kill()


@case("a folder of the host is mounted by 9p")
def shares():
    """What the host writes, the guest reads."""
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "note").write_text("from the host\n", encoding="utf-8")
        with VM(device=False, share=folder) as vm:
            vm.guest.check("mount -t 9p -o trans=virtio share /mnt")
            assert vm.guest.check("cat /mnt/note") == "from the host\n"


@case("system_reset boots again")
def resets():
    """The monitor stays, the guest starts anew."""
    with VM(device=False) as vm:
        vm.guest.check("touch /tmp/before")
        vm.qmp.cmd("system_reset")
        vm.qmp.wait_event("RESET")
        vm.wait_ready()
        assert vm.guest.run("test -e /tmp/before")[0] == 1


@case("what a guest's kernel complains about is seen")
def complaints():
    """The last case of every file stands on this."""
    lines = ("BUG: soft lockup - CPU#0 stuck for 22s!", "INFO: task x blocked for more than 120",
             "rcu: INFO: rcu_preempt self-detected stalls on CPUs", "WARNING: CPU: 0 PID: 1")
    with VM(device=False) as vm:
        vm.guest.check("echo '<4>nothing of note' > /dev/kmsg")
        assert vm.complaints_now() == []
        for line in lines:
            vm.guest.check(f"echo '<3>{line}' > /dev/kmsg")
        wait_for(lambda: len(vm.complaints_now()) == len(lines), 5, "the complaints")
        (vm.dir / "console.log").write_text("", encoding="utf-8")


if __name__ == "__main__":
    main()
