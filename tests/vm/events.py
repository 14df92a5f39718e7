#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest tells by itself: OOM kills, stalls, a module's own, oopses, panics; by QMP and by the socket, in time; and a flood."""
import base64
import json
import os
import re
import threading
import time

from harness import QMP, VM, Late, call, case, comment, insmod, main, set_parameter, shared, stats, wait_for
from harness.patient import oom_kill
from harness.records import only, records
from harness.sock import EVENT, SUBSCRIBE, SocketClient

KERNEL = os.environ.get("RVMRPC_GUEST", "6.12")
NAME = "GUEST_KERNEL_EVENT"
LATE = 0.1      # seconds from the guest's time of an event to the client that has it, less what the machine was late
AT_ONCE, EACH = 64, 0.5
TEST = "/sys/module/rvmrpc_test_mod/parameters"
HOG = "tail /dev/zero"
EVENTS_WORD, RING = 0x1140, 0x28     # in BAR 2, in BAR 0


class Heard:
    """What one way tells of the guest's events, with the time when each came; a thread reads it."""

    def __init__(self, read):
        self.read, self.events, self.error = read, [], None
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self):
        try:
            while True:
                event = self.read()
                if event.get("event") == NAME:
                    self.events.append((time.monotonic(), event["data"]))
        except (OSError, ValueError) as error:
            self.error = error

    def wait(self, match, timeout=20):
        """The first that matches: (when, data)."""
        return wait_for(lambda: next((e for e in self.events if match(e[1])), None), timeout, "an event")


def by_qmp(vm):
    """A monitor of its own."""
    qmp = QMP(vm.dir / "qmp2.sock")

    return Heard(lambda: qmp.wait_event(NAME, timeout=3600))


def by_socket(vm):
    """A subscriber of the VM's socket."""
    client = SocketClient(vm.dir / "rvmrpc.sock")
    client.query(SUBSCRIBE)

    def read():
        frame = client.recv(3600)
        return json.loads(frame.payload) if frame.kind == EVENT else {}
    return Heard(read)


class Provoked(VM):
    """Its kernel complains of what these cases do to it, which is all that it may complain of."""

    def complaints_now(self):
        """The others."""
        return [line for line in super().complaints_now()
                if not re.search(r"BUG: kernel NULL pointer|Oops: |Kernel panic - not syncing: sysrq", line)]


WAYS = {}


def guest():
    """One for all cases, and both ways."""
    vm = shared(Provoked, kernel=KERNEL, smp=2, memory="320M", device_opts="socket=rvmrpc.sock", append="psi=1 iomem=relaxed",
                extra=["-name", "events,debug-threads=on"])
    if WAYS.get("vm") is not vm:
        insmod(vm, "rvmrpc_test_mod")
        vm.guest.check("cd /sys/fs/cgroup && echo +memory > cgroup.subtree_control")
        WAYS.update(vm=vm, qmp=by_qmp(vm), socket=by_socket(vm), late=Late(vm.process.pid).start())
    return vm


def boot_offset(vm):
    """(host's monotonic time at which the guest booted, error), by the guest's clock between two of the host's."""
    best = (0, 1e9)
    for _ in range(5):
        before = time.monotonic()
        (_kind, fields), = records(vm.qmp, "clock", "read")
        after = time.monotonic()
        if after - before < 2 * best[1]:
            best = (before + after) / 2 - only(fields, 3) / 1e9, (after - before) / 2
    return best


def assert_told(vm, match, what, offset=None):
    """Both ways tell it, soon after the guest's time of it; the data."""
    found = [(way, *WAYS[way].wait(match)) for way in ("qmp", "socket")]
    offset, error = offset or boot_offset(vm)
    for way, at, data in found:
        took = at - (offset + data["time-ns"] / 1e9)
        late = WAYS["late"].between(at - max(took, 0), at)
        comment(f"{what}: by {way} after {took * 1e3:.1f} ms, give or take {error * 1e3:.1f}; "
                f"the machine was {late * 1e3:.1f} late")
        assert -error - 0.001 <= took <= LATE + error + late, (took, error, late, data)
    (_, _, first), (_, _, second) = found
    assert first == second, found
    return first


@case("a module's own event: text and data", timeout=180)
def own():
    """rvmrpc_event(), by both ways alike; text that no terminal should see is escaped."""
    vm = guest()
    vm.guest.check(f"printf 'disk 7 of \"raid\" is slow \\033[31m\\377' > {TEST}/event")
    data = assert_told(vm, lambda d: d["module"] == 0x101 and d["kind"] == 7, "own")
    assert data["type"] == "other" and base64.b64decode(data["data"]) == b"\1\2\3", data
    assert data["text"] == 'disk 7 of "raid" is slow \\033[31m\\377' and data["missed"] == 0, data
    assert stats(vm)["events"] == data["number"], (stats(vm), data)


@case("an OOM kill, with its victim")
def oom():
    """In a small cgroup: the process that the kernel's own log names."""
    vm = guest()
    victim = oom_kill(vm)
    data = assert_told(vm, lambda d: d["type"] == "oom-kill", "OOM kill")
    assert (data["pid"], data["process"]) == victim, (data, victim)
    assert 10 << 20 < data["rss"] < 26 << 20, data
    assert int(vm.guest.check("sed -n 's/^oom_kill //p' /sys/fs/cgroup/small/memory.events")) == 1


@case("tasks that wait for memory, and that wait no more", timeout=90)
def stall():
    """One that is over its cgroup's limit; PSI says the same."""
    vm = guest()
    vm.guest.check("mkdir -p /sys/fs/cgroup/slow && cd /sys/fs/cgroup/slow && echo 8M > memory.high && "
                   f"{{ sh -c 'echo $$ > cgroup.procs; exec timeout 3 {HOG}' > /dev/null & }}")
    data = assert_told(vm, lambda d: d["type"] == "stall" and not d.get("ended"), "stall")
    assert 20 <= data["percent"] <= 100, data
    assert int(vm.guest.check("head -1 /proc/pressure/memory").split("total=")[1]) > 100000
    ended = assert_told(vm, lambda d: d.get("ended"), "end of the stall")
    assert ended["type"] == "stall" and ended["percent"] < 20 and ended["number"] > data["number"], ended


@case("an oops, and who it was")
def oops():
    """In a module of ours; the kernel goes on."""
    vm = guest()
    vm.guest.check(f"echo 1 > {TEST}/oops")
    data = assert_told(vm, lambda d: d["type"] == "oops", "oops")
    assert "test_oops" in data["text"] and data["process"] == "rvmrpc_oops", data
    assert call(vm.qmp, "echo", "echo", b"on")[0] == "ok"


@case("none is told when the guest does not want it")
def off():
    """The parameter of the driver's."""
    vm = guest()
    set_parameter(vm, "events", "N")
    assert vm.guest.run(f"echo silent > {TEST}/event")[0] != 0
    set_parameter(vm, "events", "Y")
    vm.guest.check(f"echo loud > {TEST}/event")
    assert_told(vm, lambda d: d.get("text") == "loud", "on again")
    assert not any(d.get("text") == "silent" for _, d in WAYS["qmp"].events)


def memory_kib(vm):
    """What QEMU has in memory of its own: not the guest's."""
    with open(f"/proc/{vm.process.pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("RssAnon"))


def cpu_seconds(vm):
    """CPU time of the channel's thread."""
    for task in os.listdir(f"/proc/{vm.process.pid}/task"):
        with open(f"/proc/{vm.process.pid}/task/{task}/stat", encoding="ascii") as f:
            name, rest = f.read().split("(", 1)[1].rsplit(")", 1)
        if name == "rvmrpc":
            return sum(int(n) for n in rest.split()[11:13]) / os.sysconf("SC_CLK_TCK")
    raise AssertionError("QEMU has no such thread")


@case("100,000 events a second cost the host next to nothing", timeout=120)
def flood():
    """They are counted, calls go on, and what is told is bounded; afterwards all is as before."""
    vm = guest()
    rounds, count = 8, 100000
    before, heard = stats(vm), len(WAYS["qmp"].events)
    log, memory, cpu, began = len(vm.log_text()), memory_kib(vm), cpu_seconds(vm), time.monotonic()
    started = vm.guest.start(f"for i in $(seq {rounds}); do echo {count} > {TEST}/flood || exit 1; done", timeout=60)
    calls = [0.0]
    while stats(vm)["events-lost"] == before["events-lost"]:
        assert time.monotonic() < began + 30, stats(vm)
    for _ in range(50):
        asked = time.monotonic()
        assert call(vm.qmp, "echo", "echo", b"x")[0] == "ok"
        calls.append(time.monotonic() - asked)
    assert vm.guest.finish(started)[0] == 0
    took = time.monotonic() - began
    spent, grown = cpu_seconds(vm) - cpu, memory_kib(vm) - memory
    counts = {}

    def all_counted():
        after = stats(vm)
        counts.update({key: after[key] - before[key] for key in ("events", "events-lost", "events-dropped")})
        return sum(counts.values()) == rounds * count
    time.sleep(3 * EACH)
    # The last of them waits for its turn to be told.
    wait_for(all_counted, 10, "the count of all events")
    told, lost, dropped = counts.values()
    comment(f"{rounds * count / took:.0f} events/s; {told} told, {lost} lost, {dropped} dropped; the channel's thread "
            f"{spent:.2f} s of {took:.1f}, {grown} KiB more; slowest call {max(calls) * 1e3:.0f} ms")
    assert rounds * count / took > 20000
    assert told <= AT_ONCE + (time.monotonic() - began) / EACH + 2
    wait_for(lambda: len(WAYS["qmp"].events) - heard == told, 10, "all that was told, by QMP")
    assert spent < 0.2 * took + 0.1 and grown < 4096 and len(vm.log_text()) == log
    vm.guest.check(f"echo after > {TEST}/event")
    data = assert_told(vm, lambda d: d.get("text") == "after", "after the flood")
    missed = sum(d["missed"] for _, d in WAYS["qmp"].events[heard:])
    assert missed == lost + dropped and data["missed"] == 0, (missed, lost, dropped)


@case("a guest that says all the time that it told something, and rings, costs the host little", timeout=60)
def vain():
    """From its user space, by the bare device."""
    vm = guest()
    device = vm.guest.check("echo /sys/bus/pci/drivers/rvmrpc/0000:*").strip()
    vm.guest.check(f"scribble-window {device}/resource2 4 {EVENTS_WORD} >/dev/null 2>&1 & "
                   f"scribble-window {device}/resource0 4 {RING} 10 >/dev/null 2>&1 &")
    time.sleep(1)
    cpu, began, calls = cpu_seconds(vm), time.monotonic(), []
    while time.monotonic() < began + 2:
        asked = time.monotonic()
        assert call(vm.qmp, "echo", "echo", b"x")[0] == "ok"
        calls.append(time.monotonic() - asked)
        time.sleep(0.05)
    took, spent = time.monotonic() - began, cpu_seconds(vm) - cpu
    comment(f"the channel's thread {spent:.2f} s of {took:.1f}; slowest call {max(calls) * 1e3:.0f} ms")
    assert spent < 0.1 * took, (spent, took)
    wait_for(lambda: vm.guest.run("pgrep scribble-window")[0], 20, "the end of it")
    time.sleep(1)
    vm.guest.check(f"echo sane > {TEST}/event")
    assert_told(vm, lambda d: d.get("text") == "sane", "afterwards")


@case("a panic, and why", timeout=180)
def panic():
    """The guest's last word."""
    vm = guest()
    offset = boot_offset(vm)
    vm.guest.start("echo c > /proc/sysrq-trigger")
    data = assert_told(vm, lambda d: d["type"] == "panic", "panic", offset)
    assert "sysrq triggered crash" in data["text"] and data["process"] == "sh", data


if __name__ == "__main__":
    main()
