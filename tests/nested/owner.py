#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The window changes its owner while clients call: rvmrpc_host.ko's `detach' has VMMs take theirs back, and a module
that is loaded later gets the windows of VMs that run.
"""
import re
import time

from ours import COMMAND, Hammer, L2, host, named, ok, vms, with_command

from harness import call, case, comment, driver_file, main, wait_for

MODULE = "/sys/module/rvmrpc_host"
DETACH = f"{MODULE}/parameters/detach"
PINGS = 4
# Of one client and one change: those under way, and those until the driver has said hello.
LOST_MAX = 50


class Pings:
    """Clients of the socket, each of which goes on after an error, until the block ends."""

    def __init__(self, l1, name, changes):
        self.l1, self.name, self.changes = l1, name, changes
        self.found = []

    def __enter__(self):
        self.l1.guest.check("rm -f /tmp/ping-*")
        for number in range(PINGS):
            self.l1.guest.check(f"(until test -e /tmp/ping-stop; do {COMMAND} ping -c 50 -i 0.01 {self.name}; usleep 20000; done "
                                f">/tmp/ping-{number} 2>&1; echo end >/tmp/ping-{number}.rc) >/dev/null 2>&1 &")
        return self

    def __exit__(self, kind, *_):
        self.l1.guest.check("touch /tmp/ping-stop")
        if kind is None:
            self.found = [self._pinged(number) for number in range(PINGS)]
            comment(f"socket: {self.found}")
            for sent, answered, _ in self.found:
                assert answered > 0 and sent - answered <= LOST_MAX * self.changes, self.found

    def _pinged(self, number):
        """How many were sent, and answered; what the others got."""
        wait_for(lambda: self.l1.guest.run(f"test -s /tmp/ping-{number}.rc")[0] == 0, 90, "the end of a client",
                 interval=0.2)
        text = self.l1.guest.check(f"cat /tmp/ping-{number}")
        counts = re.findall(r"(\d+) calls, (\d+) answered", text)
        return (sum(int(sent) for sent, _ in counts), sum(int(answered) for _, answered in counts),
                sorted(set(re.findall(r"answer \d+: (?!time=)(.*)", text))))


def detach(l1, name):
    """All windows go back to their VMMs."""
    l1.guest.check(f"echo 1 >{DETACH}")
    wait_for(lambda: name not in vms(l1), 30, "the end of the attachment", interval=0.1)


def unload(l1):
    """The module goes; no VMM may have its file."""
    wait_for(lambda: l1.guest.run("rmmod rvmrpc_kvm rvmrpc_host 2>/dev/null; ! test -d " + MODULE)[0] == 0, 20,
             "the module's end", interval=0.2)


def load(l1):
    """The module comes, with what lets vCPUs wait in it."""
    l1.guest.check("insmod /clients/rvmrpc_host.ko detach=1 && insmod /clients/rvmrpc_kvm.ko && "
                   f"echo 0 >{DETACH}")


def is_kernels(vm, name):
    """Waits until the kernel has the window, and its guest a vCPU that can wait there."""
    wait_for(lambda: vms(vm.l1).get(name, {}).get("connected"), 60, "the VM's guest in the kernel", interval=0.2)
    info = vm.wait_state("connected")
    assert info["proxy"] == "kernel", info
    # The driver reads the answer to its hello when it has the CPU.
    wait_for(lambda: driver_file(vm, "wait").startswith("vmlp"), 20, "a driver that can wait in the kernel",
             interval=0.2)


def is_qemus(vm, seconds):
    """The window is QEMU's, and stays so, as long as the module takes none."""
    info = vm.wait_state("connected")
    time.sleep(seconds)
    now = vm.query()
    assert (info["proxy"], now["proxy"], now["epoch"]) == ("vmm", "vmm", info["epoch"]), (info, now)
    assert call(vm.qmp, "echo", 0, b"after") == ("ok", b"after")


@case("4 clients of the socket and 4 of the kernel while the window goes back to QEMU and to the kernel", timeout=400)
def changes():
    """Every call ends with a status, the next are served by whoever has the window."""
    l1 = with_command(host())
    options = named("changing", 1, smp=2, memory="192M", device_opts="socket=/tmp/changing.sock")
    with L2(l1, **options) as vm:
        is_kernels(vm, "changing")
        with Pings(l1, "changing", 2), Hammer(l1, "changing", 4, ("ok", "reset", "not-connected")) as hammer:
            hammer.wait_calls()
            try:
                detach(l1, "changing")
                is_qemus(vm, 4)
            finally:
                l1.guest.check(f"echo 0 >{DETACH}")
            is_kernels(vm, "changing")
            hammer.wait_calls()
        comment(f"kernel: {hammer.counts}")
        assert "10 answered" in ok(vm, "ping -c 10 -i 0.01 changing")
        assert vm.query()["stats"]["in-flight"] == 0


@case("a module that is loaded when the VM runs gets its window, and so does the next that replaces it", timeout=500)
def later():
    """As DKMS does it: detach, rmmod, insmod; 4 clients of the socket go on, the kernel's find the VM again."""
    l1 = with_command(host())
    unload(l1)
    options = named("later", 2, smp=2, memory="192M", device_opts="socket=/tmp/later.sock")
    with L2(l1, **options) as vm:
        with Pings(l1, "later", 3):
            is_qemus(vm, 3)
            load(l1)
            is_kernels(vm, "later")
            with Hammer(l1, "later", 4):
                pass
            detach(l1, "later")
            unload(l1)
            is_qemus(vm, 3)
            load(l1)
            is_kernels(vm, "later")
            with Hammer(l1, "later", 4):
                pass
        assert "10 answered" in ok(vm, "ping -c 10 -i 0.01 later")


if __name__ == "__main__":
    main()
