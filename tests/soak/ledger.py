# SPDX-License-Identifier: GPL-2.0-or-later
"""Accounts for each call by two ledgers: what its client noted (programs/ledger_host.h), and what the guest noted as it
ran it (tests/vm/guest/rvmrpc_ledger.c), a file of the host that outlives the guest.
"""
import bisect
import collections
import contextlib
import os
import pathlib
import re
import threading
import time

from harness.late import run_delay_ns

LINE = re.compile(rb"x ([0-9a-f]{16}) ([0-9a-f]{4})\Z")
MS = 1_000_000
# A call that ended so was not run, and never will be.
NOT_RUN = {"busy", "module-unavailable", "version-mismatch", "procedure-unavailable", "not-allowed", "garbage-args"}
# It may have been run, once, and not after its client was told.
TOLD = {"not-connected", "stopped", "timed-out", "cancelled", "reset", "too-big"}
# The client gave up, or lost its connection: nobody told it anything.
UNTOLD = {"closed", "killed"}
# The guest had taken the request when the host gave it up: the time between its look and its note, on a busy host.
GRACE_NS = 500 * MS
LOST_NS = 3000 * MS         # a call without an end, so long after its time
KEEP_NS = 60_000 * MS       # what ended is held against what runs later; after that by a bit of it
RAN, ENDED, NEVER = 1, 2, 4


class Discrepancy(Exception):
    """A call that cannot be accounted for."""


class Client:
    """One client's ledger. Late beyond slack ns is a discrepancy."""

    def __init__(self, path, number, slack, by_monitor=False):
        self.path, self.number, self.slack, self.by_monitor = pathlib.Path(path), number, slack, by_monitor
        self.at = 0
        self.rest = b""
        self.open = {}          # id: [begun, ms, sent]
        self.flags = bytearray(1)
        self.ended = {}         # id: (status, ns, told, begun): those of KEEP_NS
        self.late = []          # (end, ns) of the control
        self.living = True

    def read(self):
        """Lines that have come."""
        if not self.path.exists():
            return []
        with open(self.path, "rb") as f:
            f.seek(self.at)
            data = f.read()
        self.at += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [line.decode(errors="replace").split(" ") for line in lines]

    def control(self, start, end):
        """How late sleeps of its control were between."""
        return max((late for at, late in self.late if at > start and at - late < end), default=0)


class Starved:
    """How long the server's threads could run and were not let: the machine's other work, not the server's fault."""

    EVERY_S = 0.02

    def __init__(self):
        self.samples = collections.deque(maxlen=20_000)     # (ns, pid, ns that each waited for a CPU since it began)
        self.threads = (0, [])                              # pid, tids; the first is the one that calls go through
        self.ending = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def watch(self, pid, first=None):
        """A process from now on. Calls go through its thread of that name, or its first; those by a monitor through the
        first, which may have to wait for a lock that any other has.
        """
        tasks = {}
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # it has ended
                tasks[int(task.name)] = (task / "comm").read_text(encoding="utf-8").strip()
        wanted = next(tid for tid, name in tasks.items() if name == first) if first else pid
        self.threads = (pid, [wanted, *(tid for tid in tasks if tid != wanted)])

    def _run(self):
        while not self.ending.wait(self.EVERY_S):
            pid, tids = self.threads
            if tids:
                self.samples.append((time.monotonic_ns(), pid, [run_delay_ns(pid, tid) for tid in tids]))

    def between(self, start, end, by_monitor=False):
        """Nanoseconds of it; from the last look before to the first look after."""
        samples = list(self.samples)
        before = [s for s in samples if s[0] <= start][-1:]
        after = [s for s in samples if s[0] >= end][:1]
        if not before or not after or before[0][1] != after[0][1]:
            return 0
        waits = [b - a for a, b in zip(before[0][2], after[0][2]) if b >= a]
        return sum(waits if by_monitor else waits[:1])


class Ledger:
    """Of one guest and all its clients. check() raises Discrepancy."""

    def __init__(self, guest_path, late_ms=100):
        self.guest_path = pathlib.Path(guest_path)
        self.guest_path.touch()
        self.late_ns = late_ms * MS
        self.starved = Starved()
        self.clients = {}
        self.at = 0
        self.rest = b""
        self.unknown = []               # (id, offset): begun by a line that was not read yet
        self.sizes = collections.deque(maxlen=200_000)  # (bytes of the guest's ledger, ns)
        self.pending = []               # ends whose time is judged at the next check
        self.excuses = []               # [from, to, by monitor only]: times that do not count
        self.mark = None                # [from, to]: when the state was saved
        self.replayable = set()
        self.count = collections.Counter()
        self.worst = 0                  # ns beyond its time, less what the machine was late
        self.worst_control = 0
        self.texts = []

    # Clients and excuses

    def client(self, number, path, slack_ms=0, by_monitor=False):
        """A client that is about to begin."""
        self.clients[number] = Client(path, number, slack_ms * MS, by_monitor)
        return self.clients[number]

    def killed(self, number):
        """What it had begun is nobody's."""
        client = self.clients[number]
        self._read_client(client)
        client.living = False
        now = time.monotonic_ns()
        for ident in list(client.open):
            self._end(client, ident, now, "killed", None)

    def excuse(self, by_monitor=False):
        """A time that does not count begins: the VM or its server stands still. excused() ends it."""
        self.excuses.append([time.monotonic_ns(), None, by_monitor])
        return self.excuses[-1]

    @staticmethod
    def excused(excuse):
        """See excuse()."""
        excuse[1] = time.monotonic_ns()

    @contextlib.contextmanager
    def saving(self):
        """The VM's state is saved: calls that are in flight meanwhile may be in it, about to be run."""
        self.mark = [time.monotonic_ns(), None]
        yield
        self.mark[1] = time.monotonic_ns()

    def loaded(self):
        """It was loaded: what it was about to run it may run again, and no other call."""
        self._read_clients()
        begin, end = self.mark
        for client in self.clients.values():
            self.replayable |= {ident for ident, call in client.open.items() if call[0] <= end}
            self.replayable |= {ident for ident, call in client.ended.items() if call[3] <= end and call[1] >= begin}

    # Reading

    def _read_clients(self):
        for client in self.clients.values():
            self._read_client(client)

    def _read_client(self, client):
        for words in client.read():
            kind = words[0]
            if kind == "b":
                ident = int(words[1], 16)
                index = ident & 0xffffffff
                if index >= len(client.flags):
                    client.flags.extend(bytes(index + 1 - len(client.flags) + 4096))
                client.open[ident] = [int(words[2]), int(words[3]), 0]
                self.count["begun"] += 1
            elif kind == "s":
                if int(words[1], 16) in client.open:
                    client.open[int(words[1], 16)][2] = int(words[2])
            elif kind == "e":
                self._end(client, int(words[1], 16), int(words[2]), words[3], int(words[4]))
            elif kind == "c":
                client.late.append((int(words[1]), int(words[2])))
                self.worst_control = max(self.worst_control, int(words[2]))
            elif kind == "k":
                self.count["cancels"] += 1
            elif kind == "x":
                self.texts.append(" ".join(words[2:]))

    def _end(self, client, ident, when, status, told):
        begun = client.open.pop(ident, None)
        if begun is None:
            raise Discrepancy(f"{ident:x}: {status}: ended twice, or never begun")
        self.count["ended"] += 1
        self.count[status] += 1
        if status not in NOT_RUN | TOLD | UNTOLD | {"ok"}:
            raise Discrepancy(f"{ident:x}: {status}")
        if told is not None:
            self.sizes.append((told, when))
        index = ident & 0xffffffff
        client.flags[index] |= ENDED | (NEVER if status in NOT_RUN else 0)
        client.ended[ident] = (status, when, told, begun[0])
        self.pending.append((client, ident, begun, when, status, told))

    def _read_guest(self):
        size = self.guest_path.stat().st_size
        now = time.monotonic_ns()
        with open(self.guest_path, "rb") as f:
            f.seek(self.at)
            data = f.read(max(0, size - self.at))
        self.sizes.append((size, now))
        start = self.at - len(self.rest)
        self.at += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self._guest_line(line, start)
            start += len(line) + 1

    def _guest_line(self, line, offset):
        if not line:
            return
        match = LINE.match(line)
        ident = int(match.group(1), 16) if match else 0
        if not match or int(match.group(2), 16) != (ident ^ ident >> 16 ^ ident >> 32 ^ ident >> 48) & 0xffff:
            # The machine ended in the middle of it.
            self.count["torn"] += 1
            return
        self.count["run"] += 1
        self._ran(ident, offset, first=True)

    def _ran(self, ident, offset, first):
        client = self.clients.get(ident >> 32)
        index = ident & 0xffffffff
        if client is None or index >= len(client.flags) or not (ident in client.open or client.flags[index]):
            if not first:
                raise Discrepancy(f"{ident:x}: run, and nobody asked for it")
            self.unknown.append((ident, offset))
            return
        flags = client.flags[index]
        if flags & RAN:
            if ident in self.replayable:
                self.count["run again by a loaded state"] += 1
                return
            raise Discrepancy(f"{ident:x}: run twice, {client.ended.get(ident, 'not ended')}")
        if flags & NEVER:
            raise Discrepancy(f"{ident:x}: run, after its end, {client.ended.get(ident)}, said that it is not")
        client.flags[index] |= RAN
        if flags & ENDED:
            self._ran_after(client, ident, offset)

    def _ran_after(self, client, ident, offset):
        """It is run, or was noted late: after its client was told, as far as that can be said."""
        status, when, told, _ = client.ended.get(ident, ("long ago", 0, 0, 0))
        if status in UNTOLD or offset < told:
            return
        at = self._not_before(offset)
        for start, end, _ in self.excuses:
            # While it stood still nothing ran, and the guest did not see that it was told.
            if end and start < at and end > when:
                when = end
        if status == "long ago" or at - when > GRACE_NS:
            raise Discrepancy(f"{ident:x}: run {(at - when) / MS:.0f} ms or more after its client was told {status}")
        self.count["run while it was told"] += 1

    def _not_before(self, offset):
        """A time at which the line at this offset of the guest's ledger was not written yet."""
        at = bisect.bisect_right(self.sizes, (offset, float("inf")))
        return self.sizes[at - 1][1] if at else 0

    # Judgement

    def _control(self, client, start, end):
        """How late this machine let clients and server run between, whatever these wanted."""
        return (max((c.control(start, end) for c in self.clients.values()), default=0) +
                self.starved.between(start, end, client.by_monitor))

    def _due(self, client, sent, time_ns):
        """When a call must have ended. Its time begins as the server receives it."""
        excuses = [(start, stop) for start, stop, by_monitor in self.excuses if client.by_monitor or not by_monitor]
        for start, stop in excuses:
            if start - self.late_ns < sent < stop:
                sent = stop
        end = sent + time_ns
        for start, stop in excuses:
            if start < end + self.late_ns + client.slack and stop > end:
                end = stop
        return end

    def _judge(self, client, ident, begun, when, status, told):
        index = ident & 0xffffffff
        if status == "ok" and not client.flags[index] & RAN:
            raise Discrepancy(f"{ident:x}: answered, and not run: {told} bytes by then")
        if status == "killed" or not begun[2]:
            return
        end = self._due(client, begun[2], begun[1] * MS)
        late = when - end
        if late > self.late_ns + client.slack:
            # It was received late, or ended late.
            late -= self._control(client, begun[2], begun[2] + late) + self._control(client, end, when)
            self.count["late as the machine was"] += late <= self.late_ns + client.slack
        if late > self.late_ns + client.slack:
            raise Discrepancy(f"{ident:x}: {status} {late / MS:.0f} ms after its time of {begun[1]} ms, "
                              f"client {client.number:x}")
        if not client.slack:
            self.worst = max(self.worst, late)

    def _lost(self, now):
        for client in self.clients.values():
            for ident, (_, ms, sent) in client.open.items():
                end = self._due(client, sent, ms * MS)
                if client.living and sent and now - end - self._control(client, end, now) > LOST_NS + client.slack:
                    raise Discrepancy(f"{ident:x}: lost: no end {(now - end) / MS:.0f} ms after its time of {ms} ms")

    def _forget(self, now):
        for client in self.clients.values():
            while client.ended:
                ident = next(iter(client.ended))
                if now - client.ended[ident][1] < KEEP_NS:
                    break
                del client.ended[ident]
            client.late = [entry for entry in client.late if now - entry[0] < KEEP_NS]
        self.excuses = [e for e in self.excuses if e[1] is None or now - e[1] < 2 * KEEP_NS]

    def check(self):
        """Reads what has come and judges what had come at the last check."""
        judged, self.pending = self.pending, []
        # Before the ledgers are read: what had ended by now is in them.
        now = time.monotonic_ns()
        self._read_clients()
        self.sizes = collections.deque(sorted(self.sizes), maxlen=self.sizes.maxlen)
        # What the guest had noted at the last check, its client had noted before.
        unknown, self.unknown = self.unknown, []
        for ident, offset in unknown:
            self._ran(ident, offset, first=False)
        self._read_guest()
        if any(stop is None for _, stop, _ in self.excuses):
            # How long it stands still is not known yet.
            self.pending = judged + self.pending
            return
        for entry in judged:
            self._judge(*entry)
        self._lost(now)
        self._forget(now)

    def finish(self):
        """After all clients have ended."""
        for _ in range(2):
            self.check()
            time.sleep(0.1)
        self.check()
        left = [ident for client in self.clients.values() for ident in client.open]
        if left:
            raise Discrepancy(f"{left[0]:x}: lost: its client has ended, and {len(left) - 1} more")

    def summary(self):
        """Figures."""
        return {"accounted": self.count["ended"], "lost": 0, "doubled": 0, "late": 0,
                "worst ms after a deadline": round(self.worst / MS, 1),
                "worst ms of the control": round(self.worst_control / MS, 1),
                "by end and in the guest": dict(sorted(self.count.items())),
                "connections that a server closed": dict(collections.Counter(self.texts))}


def append_line(path, line):
    """A line of a client that is written in Python."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)
