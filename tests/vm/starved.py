#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest in need answers: no user space, no memory, no CPU time."""
import time

from harness import DEBUG_KERNEL, QMPError, call, case, comment, main, shared

MEMORY = {"smp": 1, "memory": "192M"}
HOGS = ("echo 1 > /proc/sys/vm/overcommit_memory; "
        "echo -1000 > /proc/self/oom_score_adj; "
        "while :; do sh -c 'echo 1000 > /proc/self/oom_score_adj; tail /dev/zero'; done "
        ">/dev/null 2>&1 & echo $!")


# ms; QEMU itself, and a vCPU, may have to wait for the host's CPUs, 3 s of them. What is usual is asserted beside.
DEADLINE = 6000


def timed(qmp, name, deadline=DEADLINE, **arguments):
    """(answer, seconds) of a command."""
    start = time.monotonic()
    answer = qmp.cmd(name, {**arguments, "timeout": deadline})
    return answer, time.monotonic() - start


def all_answer(vm, meminfo_total):
    """Every read-only command answers within its deadline."""
    for name in ("guest-meminfo", "guest-loadavg", "guest-cpustat", "guest-cpuinfo",
                 "guest-osinfo"):
        assert timed(vm.qmp, name)[0]["os"] == "linux"
    assert vm.qmp.cmd("guest-meminfo")["total"] == meminfo_total
    assert call(vm.qmp, "echo", "echo", b"x") == ("ok", b"x")


def is_mute(vm):
    """The shell was told to say something, and does not."""
    assert b"awake" not in vm.guest.heard(1), "user space runs"


@case("with every process frozen by the cgroup freezer, init too")
def frozen():
    """The shell freezes itself last."""
    vm = shared()
    total = vm.qmp.cmd("guest-meminfo")["total"]
    vm.guest.check("mkdir /sys/fs/cgroup/all; for p in /proc/[0-9]*; do "
                   "echo ${p#/proc/} > /sys/fs/cgroup/all/cgroup.procs; done 2>/dev/null; true")
    inside = vm.guest.check("cat /sys/fs/cgroup/all/cgroup.procs").split()
    assert "1" in inside, "init is in the group"
    vm.guest.sock.sendall(b"echo 1 > /sys/fs/cgroup/all/cgroup.freeze\n")
    time.sleep(0.5)
    vm.guest.sock.sendall(b"echo a''wake\n")
    is_mute(vm)
    all_answer(vm, total)
    assert timed(vm.qmp, "guest-drop-caches", 10000, mode="all")[0]["freed"] >= 0
    took = sorted(timed(vm.qmp, "guest-meminfo")[1] for _ in range(21))
    assert took[10] < 0.1, took


@case("with every process stopped while init sleeps")
def stopped():
    """kill -STOP -1 leaves out init and the shell that says it; that one is next."""
    vm = shared(smp=1)
    total = vm.qmp.cmd("guest-meminfo")["total"]
    vm.guest.sock.sendall(b"kill -STOP -1; kill -STOP $$; echo a''wake\n")
    is_mute(vm)
    all_answer(vm, total)


@case("with memory exhausted and the OOM killer busy: every call is answered in time",
      timeout=120)
def out_of_memory():
    """For 15 s, or longer where memory takes longer to fill; the OOM killer must have been seen at work during them."""
    vm = shared(**MEMORY)
    total = vm.qmp.cmd("guest-meminfo")["total"]
    vm.guest.check("dmesg -n 1")
    kills = int(vm.guest.check("grep oom_kill /proc/vmstat").split()[1])
    pid = vm.guest.check(HOGS).strip()
    lowest, times = total, []
    end = time.monotonic() + (60 if DEBUG_KERNEL else 15)
    while time.monotonic() < end:
        answer, took = timed(vm.qmp, "guest-meminfo")
        assert answer["total"] == total
        lowest = min(lowest, answer["available"])
        times.append(took)
        time.sleep(0.02)
    vm.guest.check(f"kill -9 {pid}; killall tail", timeout=30)
    kills = int(vm.guest.check("grep oom_kill /proc/vmstat", timeout=30).split()[1]) - kills
    times.sort()
    comment(f"{len(times)} answers, median {times[len(times) // 2]:.4f} s, longest "
            f"{times[-1]:.3f} s, lowest available {lowest} bytes, {kills} kills")
    assert kills >= (1 if DEBUG_KERNEL else 3), kills
    assert lowest < total * 0.05, lowest
    assert len(times) > 50 and times[len(times) // 2] < 0.2
    all_answer(vm, total)


@case("with memory exhausted, guest-drop-caches ends by its deadline", timeout=90)
def out_of_memory_drop():
    """It runs in a worker, and may have to wait for memory."""
    vm = shared(**MEMORY)
    vm.guest.check("dmesg -n 1")
    pid = vm.guest.check(HOGS).strip()
    time.sleep(2)
    done = 0
    for _ in range(5):
        try:
            timed(vm.qmp, "guest-drop-caches", 10000, mode="pagecache")
            done += 1
        except QMPError as error:
            assert error.desc.startswith("timed-out"), error
        timed(vm.qmp, "guest-meminfo")
    vm.guest.check(f"kill -9 {pid}; killall tail", timeout=30)
    assert done >= 3, done
    assert call(vm.qmp, "echo", "echo", b"x") == ("ok", b"x")


@case("with eight processes that want every CPU: each call within its deadline", timeout=60)
def busy():
    """In the default mode, for 10 s."""
    vm = shared(**MEMORY)
    vm.guest.check("for i in 1 2 3 4 5 6 7 8; do timeout 11 sh -c 'while :; do :; done' & done")
    times, end = [], time.monotonic() + 10
    while time.monotonic() < end:
        times.append(timed(vm.qmp, "guest-meminfo")[1])
        time.sleep(0.05)
    times.sort()
    comment(f"{len(times)} answers, median {times[len(times) // 2]:.4f} s, longest {times[-1]:.3f} s")
    assert times[len(times) // 2] < 0.2
    assert float(vm.qmp.cmd("guest-loadavg")["load1m"]) > 0.5


if __name__ == "__main__":
    main()
