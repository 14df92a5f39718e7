# SPDX-License-Identifier: GPL-2.0-or-later
"""rvmrpc doctor on a guest that is sick in earnest: in time, with the cause, and with no other."""
import re
import time

from ward import doctor, guest, names, rvmrpc, slow
from harness import case, insmod, wait_for
from harness.files import mute_fuse
import tools

BOMB = "/sys/fs/cgroup/bomb"
THREADS = "/proc/sys/kernel/threads-max"
# Some wait until each CPU was elsewhere.
RCU = (r"\d+ tasks? waits? in \w*rcu",)
SPIN_MS = 3000
HEALTHY = ["nothing was found that is wrong"]


def is_well(seconds=60):
    """What a boot, or an illness before, has left in the averages of 10 s fades."""
    wait_for(lambda: doctor()[0] == HEALTHY, seconds, "a guest that is well", interval=1)


@case("a healthy guest: nothing is wrong", timeout=120)
def healthy():
    """After what its start has left in the averages."""
    guest()
    is_well()


@case("a kernel thread that spins with preemption off on the second of two CPUs", cpu=1)
@case("a kernel thread that spins with preemption off on the first of two CPUs", cpu=0)
def spinning(cpu):
    """It is named, and the CPU; the driver's thread finds the one that is left."""
    vm = guest()
    for left in (2, 1, 0):
        start = time.monotonic()
        insmod(vm, "rvmrpc_spin", f"cpu={cpu} ms={SPIN_MS}")
        try:
            report = names(r"the kernel's thread rvmrpc-spin \(PID \d+\) keeps a CPU: \d+ %",
                           rf"CPU {cpu} is in the kernel all the time; most by rvmrpc-spin \(PID \d+\)", also=RCU)
            assert re.search(r"^ +\d+ +\d+%  rvmrpc-spin$", report, re.M), report
            break
        except AssertionError:
            # A busy machine looked when it was over.
            if not left or time.monotonic() - start < SPIN_MS / 1e3:
                raise
        finally:
            vm.guest.check("rmmod rvmrpc_spin")


@case("all of user space stopped by its cgroup, init too")
def frozen():
    """But for one that sleeps, and lets it go on."""
    vm = guest()
    froze = vm.guest.start("""cd /sys/fs/cgroup; mkdir all; for p in /proc/[0-9]*; do echo ${p#/proc/} > all/cgroup.procs; done
        sh -c 'echo $$ > cgroup.procs; echo 1 > all/cgroup.freeze; sleep 8; echo 0 > all/cgroup.freeze'""")
    wait_for(lambda: any(task.get("frozen") and task["pid"] == 1 for task in rvmrpc("ps", "--json").json()["tasks"]), 20,
             "a frozen init")
    try:
        names(r"user space stands: \d+ of \d+ processes are stopped, [1-9]\d* of them by a frozen cgroup, the first process "
              "too$")
    finally:
        vm.guest.finish(froze)


@case("most of user space stopped by a signal")
def stopped():
    """Init takes no SIGSTOP."""
    vm = guest()
    vm.guest.check("for n in 1 2 3 4 5 6 7 8 9; do setsid sleep 3600 > /dev/null 2>&1 & done; "
                   "sleep 2; killall -STOP sleep")
    try:
        names(r"user space stands: 9 of \d+ processes are stopped, 0 of them by a frozen cgroup$")
    finally:
        vm.guest.check("killall -KILL sleep")


@case("a full disk")
def full():
    """Root's reserve, too."""
    vm = guest()
    vm.guest.run("dd if=/dev/zero of=/data/all bs=64k 2>/dev/null; sync")
    names(r"/data is full: 0 B of \d+\.\d MiB left")
    vm.guest.check("rm /data/all")


@case("a disk that hangs, with dirty data", timeout=120)
def hung():
    """It is named, and who waits for it; what is on other disks is none of it."""
    vm = guest()
    with slow(vm):
        vm.guest.check("dd if=/dev/zero of=/slow/dirty bs=64k count=160 2>/dev/null; sync & sleep 1")
        report = names(r"vda has \d+ requests in flight and finished none in \d+\.\d s", r"\d tasks? waits? in \w+: ",
                       also=("its kernel said .*blocked for more than",))
        assert "sync" in report.split("\nBlocked tasks\n")[1].split("\nFile systems\n")[0], report
    vm.guest.check("rm /slow/dirty; sync", timeout=60)


@case("a FUSE file system that never answers: df tells the others in time")
def mute():
    """Who looks at it hangs."""
    vm = guest()
    with mute_fuse(vm, "/fuse"):
        vm.guest.check("ls /fuse > /dev/null 2>&1 & echo $! > /tmp/looks; sleep 0.5; test -d /proc/$(cat /tmp/looks)")
        df = tools.soon(3, lambda: rvmrpc("df"))
        assert re.search(r"^/dev/vda .* /slow$", df.out, re.M), df
        assert re.search(r"^mute +fuse\.mute +- .* /fuse \(remote, not asked\)$", df.out, re.M), df
        assert not any("/fuse" in sentence for sentence in doctor()[0])


@case("a fork bomb", timeout=120)
def bomb():
    """In a cgroup, so that it can be ended; nothing there is limited."""
    vm = guest()
    # Of so many the guest's memory holds more than enough.
    vm.guest.check(f"echo 600 > {THREADS}; mkdir -p {BOMB}; sh -c 'echo $$ > {BOMB}/cgroup.procs; echo 1000 > /proc/self/oom_score_adj; "
                   "exec fork-bomb 8' > /dev/null 2>&1 & sleep 2", timeout=60)
    try:
        # The driver's workers wait for a CPU as all do: what they look at may be late.
        names(r"\d+ of \d+ processes are called fork-bomb", also=(r"\d+ tasks? waits? in ", "cannot say (how full|what its disks)"))
    finally:
        vm.guest.sock.sendall(f"echo 1 > {BOMB}/cgroup.kill; echo 3000 > {THREADS}\n".encode())
        vm.guest.sync(60)


@case("an OOM storm", timeout=120)
def storm():
    """One after another takes all, and is killed."""
    vm = guest()
    vm.guest.check("echo 1 > /proc/sys/vm/overcommit_memory; echo -1000 > /proc/self/oom_score_adj; "
                   "while :; do sh -c 'echo 1000 > /proc/self/oom_score_adj; exec tail /dev/zero'; done "
                   "> /dev/null 2>&1 & echo $! > /tmp/storm")
    # The kernel counts a kill before it says so.
    wait_for(lambda: int(vm.guest.run("dmesg | grep -c 'Out of memory: Killed process'")[1]) >= 2, 40, "kills", interval=0.5)
    try:
        names(r"for want of memory \d+ processes were killed since it booted",
              r"its kernel said \d+ s ago: Out of memory: Killed process \d+ \(tail\)",
              also=(r"out of memory: tail \(PID \d+\) has ",))
    finally:
        vm.guest.run("kill -9 $(cat /tmp/storm); killall tail", timeout=60)
