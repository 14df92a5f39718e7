#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The window changes its owner while clients call: rvmrpc_host.ko's `detach' has VMMs take theirs back."""
import re

from ours import COMMAND, Hammer, L2, host, named, ok, vms, with_command

from harness import call, case, comment, main, wait_for

DETACH = "/sys/module/rvmrpc_host/parameters/detach"
PINGS = 4
# Of one client: those under way when the owner changes, and those until the driver has said hello.
LOST_MAX = 50


def ping(l1, number):
    """A client of the socket; it goes on after an error."""
    l1.guest.check(f"rm -f /tmp/ping-{number}*; ({COMMAND} ping -c 400 -i 0.01 changing "
                   f">/tmp/ping-{number} 2>&1; echo $? >/tmp/ping-{number}.rc) >/dev/null 2>&1 &")


def pinged(l1, number):
    """How many were sent, and answered; what the others got."""
    wait_for(lambda: l1.guest.run(f"test -s /tmp/ping-{number}.rc")[0] == 0, 90, "the end of a client", interval=0.2)
    text = l1.guest.check(f"cat /tmp/ping-{number}")
    sent, answered = map(int, re.search(r"(\d+) calls, (\d+) answered", text).groups())
    return sent, answered, sorted(set(re.findall(r"answer \d+: (.*)", text)))


@case("4 clients of the socket and 4 of the kernel while the window's owner changes", timeout=300)
def detach():
    """Every call ends with a status; the socket's next ones are served by QEMU, the kernel knows the VM no more."""
    l1 = with_command(host())
    options = named("changing", 1, smp=2, memory="192M", device_opts="socket=/tmp/changing.sock")
    with L2(l1, **options) as vm:
        assert vm.query()["proxy"] == "kernel"
        with Hammer(l1, "changing", 4, ("ok", "reset", "not-connected")) as hammer:
            for number in range(PINGS):
                ping(l1, number)
            hammer.wait_calls()
            try:
                l1.guest.check(f"echo 1 >{DETACH}")
                wait_for(lambda: "changing" not in vms(l1), 30, "the end of the attachment", interval=0.1)
                found = [pinged(l1, number) for number in range(PINGS)]
            finally:
                l1.guest.check(f"echo 0 >{DETACH}")
        comment(f"kernel: {hammer.counts}; socket: {found}")
        for sent, answered, _ in found:
            assert sent == 400 and 400 - LOST_MAX <= answered, found
        info = vm.wait_state("connected")
        assert info["proxy"] == "vmm", info
        assert call(vm.qmp, "echo", 0, b"after") == ("ok", b"after")
        assert "10 answered" in ok(vm, "ping -c 10 -i 0.01 changing")
        assert info["stats"]["in-flight"] == 0, info


@case("a VM that starts after that is the kernel's again", timeout=180)
def again():
    """Detach is over as soon as the parameter is 0."""
    l1 = host()
    with L2(l1, **named("next", 2, memory="192M")) as vm:
        assert vm.query()["proxy"] == "kernel"
        with Hammer(l1, "next", 2):
            pass


if __name__ == "__main__":
    main()
