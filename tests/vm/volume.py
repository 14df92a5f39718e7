#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Very many calls: none lost, none mixed up, and what one costs in gate calls."""
import os
import random
import time

from harness import call, call_args, case, comment, counters, main, set_parameter, shared, stats

REQUEST_MAX = 4096
TIMES = 20 if "RVMRPC_LONG" in os.environ else 1
LIMIT = 120 * TIMES


def guest(**options):
    """Two CPUs: the server, and what makes noise."""
    return shared(smp=2, **options)


def hammer(vm, calls, rng):
    """Random contents and sizes, by two monitors in turn, each with a request ahead."""
    monitors = (vm.qmp, vm.qmp2)
    flying = []
    longest = 0
    for number in range(calls + len(monitors)):
        if number < calls:
            data = rng.randbytes(int(REQUEST_MAX ** rng.random()) if rng.random() < 0.98
                                 else REQUEST_MAX)
            qmp = monitors[number % 2]
            args = call_args("echo", "echo", data, 10000)
            flying.append((qmp, qmp.send("guest-kernel-call", args), args["data"]))
        if len(flying) == 2 or number >= calls and flying:
            qmp, ident, data = flying.pop(0)
            reply = qmp.recv(ident)
            assert reply["status"] == "ok" and reply["data"] == data, (reply, data)
            longest = max(longest, reply["elapsed-ns"] / 1e9)
    return longest


def check_volume(vm, calls, seed):
    """All answered, nothing late, nothing bad; both sides agree on the number."""
    before, inside = stats(vm), counters(vm)
    start = time.monotonic()
    longest = hammer(vm, calls, random.Random(seed))
    seconds = time.monotonic() - start
    after, inside_after = stats(vm), counters(vm)
    comment(f"{calls} calls in {seconds:.1f} s, longest {longest:.3f} s")
    assert after["completed"] - before["completed"] == calls
    assert inside_after["calls"] - inside["calls"] == calls
    for key in ("failed", "refused", "timed-out", "late-replies", "bad-replies", "cancelled",
                "reset"):
        assert after[key] == before[key], (key, before, after)
    for key in ("late", "malformed", "refused", "errors", "resets", "watchdog"):
        assert inside_after[key] == inside[key], (key, inside, inside_after)
    assert after["in-flight"] == 0
    return before, after


@case("very many calls, by hypercall, in the default mode", mode=50, calls=8000, timeout=LIMIT)
@case("very many calls, by hypercall, asleep until the interrupt", mode=0, calls=5000, timeout=LIMIT)
@case("very many calls, by hypercall, always in VMLP", mode=-1, calls=7000, timeout=LIMIT)
def volume(mode, calls):
    """And the interrupts and waits are those of the mode."""
    calls *= TIMES
    vm = guest()
    set_parameter(vm, "spin_us", 0)
    set_parameter(vm, "vmlp_idle_us", mode)
    call(vm.qmp, "echo", "echo")
    before, after = check_volume(vm, calls, seed=mode)
    waits = after["waits"] - before["waits"]
    interrupts = after["interrupts"] - before["interrupts"]
    comment(f"{waits} waits, {interrupts} interrupts")
    if mode == 0:
        assert waits == 0 and interrupts > calls * 0.2, (waits, interrupts)
    if mode == -1:
        assert waits > calls * 0.5 and interrupts < calls * 0.1, (waits, interrupts)


@case("very many calls to a guest that has no gate", timeout=LIMIT)
def no_gate():
    """The window is enough."""
    vm = guest(device_opts="hypercall=off,doorbell=off")
    calls = 2000 * TIMES
    _, after = check_volume(vm, calls, seed=7)
    assert vm.query()["gate"] == "none" and after["hypercalls"] == after["doorbells"] == 0


@case("in VMLP a call costs one gate call: by the slope from N to 2N calls", timeout=120)
def cost():
    """The guest's own ticks end waits, too: what they cost is in the constant."""
    vm = guest()
    set_parameter(vm, "spin_us", 0)
    set_parameter(vm, "vmlp_idle_us", -1)
    call(vm.qmp, "echo", "echo")

    def gate_calls(calls):
        """Those of the calls; those that an idle guest makes in that time are taken off."""
        before = stats(vm)["hypercalls"]
        start = time.monotonic()
        for _ in range(calls):
            call(vm.qmp, "echo", "echo", b"x", timeout=5000)
        seconds = time.monotonic() - start
        busy = stats(vm)["hypercalls"] - before
        time.sleep(seconds)
        idle = stats(vm)["hypercalls"] - before - busy
        comment(f"{calls} calls: {busy} gate calls in {seconds:.2f} s, idle {idle}")
        return busy - idle

    one, two = gate_calls(1500), gate_calls(3000)
    slope = (two - one) / 1500
    comment(f"{slope:.3f} gate calls per call")
    assert 0.8 < slope < 1.4, slope


if __name__ == "__main__":
    main()
