#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""TCG with one thread for all vCPUs, and with icount."""
import time

from harness import VM, QMPError, call, case, comment, main, set_parameter, stats, wait_for

MODES = (0, -1, 50)


def calls(vm, idle_us, count=30):
    """In that mode; each within its deadline, with what was sent."""
    set_parameter(vm, "vmlp_idle_us", idle_us)
    before = stats(vm)["waits"]
    start = time.monotonic()
    for i in range(count):
        data = bytes([i]) * (i * 100)
        assert call(vm.qmp, "echo", "echo", data, timeout=10000) == ("ok", data), (idle_us, i)
    comment(f"vmlp_idle_us={idle_us}: {count} calls in {time.monotonic() - start:.2f} s, "
            f"{stats(vm)['waits'] - before} waits")
    if idle_us == -1:
        wait_for(lambda: stats(vm)["waits"] > before, 10, "a wait in the host")
    else:
        assert idle_us or stats(vm)["waits"] == before


def stop_and_go(vm):
    """While the server waits in whatever way."""
    for _ in range(3):
        vm.qmp.cmd("stop")
        assert call(vm.qmp, "echo", "echo")[0] == "stopped"
        vm.qmp.cmd("cont")
        assert call(vm.qmp, "echo", "echo", b"x", timeout=10000) == ("ok", b"x")


@case("-accel tcg,thread=single, smp 1", timeout=90, smp=1, accel="tcg,thread=single")
@case("-accel tcg,thread=single, smp 2", timeout=90, smp=2, accel="tcg,thread=single")
@case("-icount shift=auto", timeout=90, smp=1, accel="tcg", extra=("-icount", "shift=auto"))
@case("-icount shift=3,sleep=off", timeout=90, smp=1, accel="tcg",
      extra=("-icount", "shift=3,sleep=off"))
def modes(smp, accel, extra=()):
    """Boots, answers in every wait mode, is stopped and goes on, shows no stall."""
    with VM(smp=smp, accel=accel, extra=extra) as vm:
        for idle_us in MODES:
            calls(vm, idle_us)
            stop_and_go(vm)
        total = vm.guest.check("grep MemTotal /proc/meminfo").split()[1]
        assert vm.qmp.cmd("guest-meminfo", {"timeout": 10000})["total"] == int(total) * 1024
        assert stats(vm)["bad-replies"] == 0


@case("one thread for two vCPUs, one in VMLP: the other gets its work done", timeout=90)
def shares():
    """A wait that held the thread would stop both."""
    with VM(smp=2, accel="tcg,thread=single", append="rvmrpc.vmlp_idle_us=-1 rvmrpc.cpu=0") as vm:
        before = stats(vm)["waits"]
        start = time.monotonic()
        vm.guest.check("taskset 2 sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done'",
                       timeout=60)
        comment(f"{time.monotonic() - start:.2f} s, {stats(vm)['waits'] - before} waits")
        assert stats(vm)["waits"] > before
        assert call(vm.qmp, "echo", "echo", b"x", timeout=10000) == ("ok", b"x")


@case("record/replay: the device is refused, when it is plugged in, too")
def replay():
    """What the host asks is in no recording."""
    with VM(kernel=None, device=False, accel="tcg,thread=single",
            extra=["-icount", "shift=7,rr=record,rrfile=record.bin", "-S"]).start() as vm:
        try:
            vm.qmp.cmd("device_add", driver="rvmrpc", id="rvmrpc0")
        except QMPError as error:
            assert "record/replay" in error.desc, error
        else:
            raise AssertionError("it was plugged in")


if __name__ == "__main__":
    main()
