# SPDX-License-Identifier: GPL-2.0-or-later
"""Bounded waiting."""
import time


class Timeout(Exception):
    """Something did not happen in time."""


def wait_for(condition, timeout, what, interval=0.02):
    """Calls condition() until it is true, and returns its value."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise Timeout(f"{what}: not within {timeout} s")
        time.sleep(interval)


class Deadline:
    """Counts down over several waits."""

    def __init__(self, timeout, what):
        self.what = what
        self.timeout = timeout
        self.end = time.monotonic() + timeout

    def left(self):
        """Seconds left; raises Timeout when there are none."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise Timeout(f"{self.what}: not within {self.timeout} s")
        return left
