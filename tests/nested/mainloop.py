#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""No call by the socket waits for QEMU's main loop."""
import contextlib
import time

from ours import L2, host, named, ok, with_command

from harness import Timeout, case, comment, main


@contextlib.contextmanager
def stuck(vm):
    """QEMU's main loop waits for a FIFO's reader, and holds the big lock."""
    guest, fifo = vm.l1.guest, f"/tmp/fifo-{vm.slot}"
    guest.check(f"rm -f {fifo}; mkfifo {fifo}")
    ident = vm.qmp.send("pmemsave", val=0, size=1, filename=fifo)
    try:
        try:
            vm.qmp.recv(ident, timeout=1)
            raise AssertionError("nothing is stuck")
        except Timeout:
            pass
        yield
    finally:
        guest.check(f"cat {fifo} >/dev/null; rm {fifo}", timeout=60)
    vm.qmp.recv(ident, timeout=20)


@case("socket calls go on while QEMU's main loop is stuck, with the window in the kernel", timeout=240, slot=0, opts="")
@case("socket calls go on while QEMU's main loop is stuck, with the window in QEMU", timeout=240, slot=1,
      opts=",kernel=off")
def main_loop(slot, opts):
    """And who connects meanwhile is served, too; nothing waits for the loop's end."""
    l1 = with_command(host())
    # Else its kernel reads QEMU's ACPI timer twice a second, to watch the TSC, and itself waits for the loop then.
    options = named("loop", 3, memory="192M", append="tsc=reliable", device_opts=f"socket=/tmp/loop.sock{opts}")
    with L2(l1, slot=slot, **options) as vm:
        assert vm.query()["proxy"] == ("vmm" if opts else "kernel")
        before = ok(vm, "ping -c 30 -i 0.05 loop")
        with stuck(vm):
            start = time.monotonic()
            during = ok(vm, "ping -c 30 -i 0.1 loop")
            assert time.monotonic() - start >= 2
        for text in (before, during):
            assert "30 calls, 30 answered" in text, text
            comment(text.splitlines()[-1])


if __name__ == "__main__":
    main()
