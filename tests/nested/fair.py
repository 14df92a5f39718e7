#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What hostile guests of our KVM cost their neighbour. It measures times, and so runs alone."""
import statistics
import time

from foes import OPEN, burns, foe, rings, scribble
from ours import Hammer, L2, named, status

from harness import call, case, comment, main, wait_for


def p99_rounds(l1, bad, ringing):
    """The neighbour's p99 in µs, of three rounds beside CPU hogs, and of three beside hostile VMs, in turns."""
    calm, rough = [], []
    for _ in range(3):
        for times, first, second in ((calm, burns, burns), (rough, scribble, rings)):
            first(bad, 8)
            second(ringing, 8)
            time.sleep(1)
            with Hammer(l1, "neighbour", 1, pause_us=5000) as hammer:
                time.sleep(4)
            times.append(hammer.result["p99_us"])
            for vm in (bad, ringing):
                wait_for(lambda vm=vm: vm.guest.run("pidof scribble-window")[0], 60, "its end")
    return calm, rough


@case("two hostile VMs, rings and scribbles, cost a third's p99 at most a factor of 2", timeout=600)
def fairness():
    """Beside two that only burn as much of the host's CPUs; rounds in turns, medians. What else this machine does comes
    and goes: a second set of rounds where it was in one half only.
    """
    bad = foe()
    l1 = bad.l1
    with L2(l1, slot=2, **named("ringing", 3, memory="128M", append=OPEN)) as ringing:
        for _ in range(2):
            calm, rough = p99_rounds(l1, bad, ringing)
            ratio = statistics.median(rough) / statistics.median(calm)
            comment(f"p99 {calm} us beside CPU hogs, {rough} us beside hostile ones: {ratio:.2f} times; "
                    f"{status(l1, 'ringing')['rings']} rings")
            if ratio <= 2:
                break
        assert ratio <= 2, (calm, rough)
        assert status(l1, "ringing")["rings"] > 1000
        for vm in (bad, ringing):
            wait_for(lambda vm=vm: call(vm.qmp, "echo", 0, b"back", timeout=2000) == ("ok", b"back"), 60, "the channel")


if __name__ == "__main__":
    main()
