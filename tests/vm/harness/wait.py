# SPDX-License-Identifier: GPL-2.0-or-later
"""Bounded waiting."""
import os
import time

# On a Linux that looks for its own faults all takes longer, and may: what bounds a time from above measures it itself.
DEBUG_KERNEL = (os.environ.get("RVMRPC_KERNEL") or "debian") != "debian"
TIMES = 4 if DEBUG_KERNEL else 1


class Timeout(Exception):
    """Something did not happen in time."""


def wait_for(condition, timeout, what, interval=0.02):
    """Calls condition() until it is true, and returns its value.

    The last look is one that began after the deadline: this program may have slept through all of the time.
    """
    timeout *= TIMES
    deadline = time.monotonic() + timeout
    while True:
        over = time.monotonic() >= deadline
        value = condition()
        if value:
            return value
        if over:
            raise Timeout(f"{what}: not within {timeout} s")
        time.sleep(interval)


def least_seconds(action, enough, times=5):
    """The shortest of an action's times, done until one is less than enough, and so often at most.

    For what bounds a time from above: other work of the machine makes one longer, what the action waits for makes all.
    """
    least = float("inf")
    for _ in range(times):
        start = time.monotonic()
        action()
        least = min(least, time.monotonic() - start)
        if least < enough:
            break
    return least


class Deadline:
    """Counts down over several waits."""

    def __init__(self, timeout, what):
        self.what = what
        self.timeout = timeout * TIMES
        self.end = time.monotonic() + self.timeout

    def left(self):
        """Seconds left; raises Timeout when there are none."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise Timeout(f"{self.what}: not within {self.timeout} s")
        return left
