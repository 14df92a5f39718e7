# SPDX-License-Identifier: GPL-2.0-or-later
"""What a busy machine is late: no fault of what is tested, and not in its time."""
import collections
import os
import pathlib
import threading
import time


def run_delay_ns(pid, tid):
    """How long a thread could have run and was not let since it began; 0 when it has ended, or nobody counts it."""
    try:
        return int(pathlib.Path(f"/proc/{pid}/task/{tid}/schedstat").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0


class Late:
    """For how long threads of this program and of others could have run and were not let, sampled by one that is not counted.

    One may wait for another: it is the sum of all that counts.
    """

    EVERY_S = 0.02

    def __init__(self, *pids):
        self.pids = (os.getpid(), *pids)
        self.samples = collections.deque(maxlen=20_000)     # (monotonic time, {(pid, tid): ns})
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _sample(self):
        found = {}
        for pid in self.pids:
            try:
                tids = os.listdir(f"/proc/{pid}/task")
            except OSError:
                continue    # it has ended
            found.update({(pid, tid): run_delay_ns(pid, tid) for tid in tids if int(tid) != self.thread.native_id})
        self.samples.append((time.monotonic(), found))

    def _run(self):
        while not self.ending.is_set():
            self._sample()
            self.ending.wait(self.EVERY_S)

    def start(self):
        """Until stop(), or the end of this program."""
        self._sample()
        self.thread.start()
        return self

    def stop(self):
        """Takes no more samples."""
        self.ending.set()
        self.thread.join()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def between(self, start, end):
        """Seconds of all those threads, from the last look before to the first after; the end must be over."""
        self._sample()
        samples = list(self.samples)
        before = ([found for at, found in samples if at <= start] or [samples[0][1]])[-1]
        after = next(found for at, found in samples if at >= end)
        return sum(max(0, ns - before.get(thread, 0)) for thread, ns in after.items()) / 1e9

    def timed(self, action, *args):
        """How long an action takes, without what the machine was late meanwhile."""
        start = time.monotonic()
        action(*args)
        end = time.monotonic()
        return end - start - self.between(start, end)
