# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of our KVM share: guests whose proxy is in the kernel of L1."""
import contextlib
import json
import re
import shutil

from levels import L1, L2, shared_l1, shared_l2

from harness import BUILD, Timeout, counters, wait_for

__all__ = ["ALWAYS", "COMMAND", "FAR", "Hammer", "HOST_OPTIONS", "L1", "L2", "LONE", "TICKLESS", "alone", "dmesg",
           "driver_counters", "host", "insmod_l1", "lkm", "mem_total", "name_of", "named", "ok", "parse_meminfo",
           "parse_vms", "rvmrpc", "settled", "shared_l1", "shared_l2", "status", "traced", "vms", "wait_status",
           "with_command"]

HOST_OPTIONS = {"kvm": "ours"}
# The server has vCPU 1 for itself and always waits in the host; no tick there, nor the interrupts of the test's shell.
# It does not spin before.
ALWAYS = "rvmrpc.vmlp_idle_us=-1 rvmrpc.spin_us=0"
LONE = f"{ALWAYS} rvmrpc.cpu=1"
TICKLESS = f"{LONE} isolcpus=1 nohz_full=1 rcu_nocbs=1 irqaffinity=0 tsc=reliable"
# The first uuid that a test takes; the others count on.
FAR = "52564d52-0000-4000-8000-00000000000"
TRACING = "/sys/kernel/tracing"
EVENTS = ("vmrpc", "rvmrpc_host")


def host():
    """The L1 of most cases, with our KVM."""
    return shared_l1(**HOST_OPTIONS)


def alone(l1):
    """Ends the other guests: two at a time are enough for this host."""
    for vm in l1.guests:
        if vm is not None:
            vm.stop()


def named(name, number, **options):
    """Options of an L2 with a name and a uuid of its own."""
    extra = ["-name", name, "-uuid", f"{FAR}{number}", *options.pop("extra", [])]
    return {"extra": extra, **options}


def parse_vms(text):
    """What /clients/vms printed, by the VM's name; of two with one name, as in a migration, the later."""
    return {vm["name"]: vm for vm in json.loads(text)}


def vms(l1):
    """What KVM's /dev/rvmrpc says of each attached VM, by name."""
    return parse_vms(l1.guest.check("/clients/vms"))


def name_of(vm):
    """The L2's name."""
    return vm.options["extra"][1].split(",")[0]


def settled(vm):
    """QEMU asks a new driver for its procedures: that call is over, and not among those that a case counts."""
    wait_status(vm.l1, name_of(vm), lambda s: s["completed"] and not s["in_flight"], 60, "QEMU's own call")
    return vm


def status(l1, name):
    """The host's counters of a VM, and its gate's."""
    return vms(l1)[name]


def wait_status(l1, name, condition, timeout, what):
    """Waits until a VM's counters meet a condition; returns them."""
    def check():
        now = vms(l1).get(name)
        return now if now and condition(now) else None
    return wait_for(check, timeout, what, interval=0.1)


def driver_counters(vm, calls=None):
    """The driver's counters, with so many calls, or at rest: it counts a call after its answer, when it has the CPU."""
    def check():
        first = counters(vm)
        return first if first["calls"] == (counters(vm)["calls"] if calls is None else calls) else None
    return wait_for(check, 20, f"{'rest' if calls is None else calls} of the driver's count of calls", interval=0.1)


def dmesg(vm):
    """What the kernel has logged since the last call."""
    return vm.guest.check("dmesg -c")


def insmod_l1(l1, name, parameters="", timeout=60):
    """Loads a module of /clients in L1: (exit status, what insmod says)."""
    return l1.guest.run(f"insmod /clients/{name}.ko {parameters}", timeout=timeout)


def lkm(l1, name, parameters="", timeout=120):
    """Loads a client that works in its init function, removes it; what it logs."""
    dmesg(l1)
    code, text = insmod_l1(l1, name, parameters, timeout)
    log = dmesg(l1)
    assert code == 0, (text, log)
    l1.guest.check(f"rmmod {name}")
    return log


def parse_meminfo(text):
    """{key: bytes} of a /proc/meminfo."""
    return {key: int(number) * 1024 for key, number in
            re.findall(r"^(\S+): +(\d+) kB$", text, re.MULTILINE)}


def mem_total(vm):
    """MemTotal as the guest's own /proc/meminfo has it, in bytes."""
    return parse_meminfo(vm.guest.check("cat /proc/meminfo"))["MemTotal"]


@contextlib.contextmanager
def traced(l1):
    """A list that has, after the block, what our tracepoints told in L1 during it: (event, {name: value}), at: seconds."""
    found = []
    l1.guest.check(f"cd {TRACING} && {{ test -e trace || mount -t tracefs tracefs {TRACING}; }} && cd {TRACING} && "
                   "echo >trace && " + " && ".join(f"echo 1 >events/{name}/enable" for name in EVENTS))
    try:
        yield found
    finally:
        l1.guest.check(f"cd {TRACING} && " + " && ".join(f"echo 0 >events/{name}/enable" for name in EVENTS))
    for line in l1.guest.check(f"grep -v '^#' {TRACING}/trace || true").splitlines():
        seconds, name, words = re.search(r" (\d+\.\d+): (\w+): (.*)$", line).groups()
        found.append((name, {"at": float(seconds), **dict(word.split("=", 1) for word in words.split())}))


TOOLS = BUILD / "host-tools"
COMMAND = "LD_LIBRARY_PATH=/share:/nested/lib /share/rvmrpc"


def with_command(l1):
    """L1, with the command rvmrpc in its share."""
    if not (l1.share / "rvmrpc").exists():
        for name in ("rvmrpc", "librvmrpc.so.0"):
            shutil.copy(TOOLS / name, l1.share / name)
    return l1


def rvmrpc(vm, words):
    """(exit status, output) of the command in L1."""
    return vm.l1.guest.run(f"{COMMAND} {words}", timeout=60)


def ok(vm, words):
    """The output of what must succeed, though the guest may take longer than the command's second."""
    code, text = rvmrpc(vm, f"-t 20000 {words}")
    assert code == 0, (words, code, text)
    return text


class Hammer:
    """Calls of a client in L1's user space. Some were answered when the block begins, and they go on until it ends.

    Then: every call was answered once, and no answer was another call's.
    """
    STATUS = ("ok", "module-unavailable", "version-mismatch", "procedure-unavailable",
              "garbage-args", "too-big", "not-allowed", "busy", "not-connected", "stopped",
              "timed-out", "cancelled", "reset", "system-error")

    def __init__(self, l1, name, depth=4, allowed=("ok",), pause_us=0):
        self.l1, self.name, self.depth, self.pause_us = l1, name, depth, pause_us
        self.path = f"/tmp/hammer-{name}"
        self.allowed = set(allowed)
        self.result = None
        self.counts = {}

    def completed(self):
        """Calls that the guest has answered; of a guest that moves, either of the two."""
        return sum(vm["completed"] for vm in json.loads(self.l1.guest.check("/clients/vms"))
                   if vm["name"] == self.name)

    def wait_calls(self):
        """Waits for some more."""
        before = self.completed()
        wait_for(lambda: self.completed() > before + 10, 60, f"calls into {self.name}", interval=0.1)

    def __enter__(self):
        path = self.path
        self.l1.guest.check(f"rm -f {path}.*; (/clients/hammer {self.name} {self.depth} {path}.stop "
                            f"{self.pause_us} >{path}.out 2>&1; echo $? >{path}.rc) >/dev/null 2>&1 &")
        self.wait_calls()
        return self

    def __exit__(self, kind, *_):
        self.l1.guest.check(f"touch {self.path}.stop")
        try:
            wait_for(lambda: self.l1.guest.run(f"test -s {self.path}.rc")[0] == 0, 80,
                     "the end of all calls", interval=0.1)
        except Timeout:
            if kind is None:
                raise
            return
        if kind is None:
            self._judge()

    def _judge(self):
        text = self.l1.guest.check(f"cat {self.path}.out")
        assert self.l1.guest.check(f"cat {self.path}.rc").strip() == "0", text
        self.result = result = json.loads(text)
        self.counts = {name: n for name, n in zip(self.STATUS, result["status"]) if n}
        assert result["wrong"] == result["unexpected"] == result["lost"] == 0, result
        assert sum(result["status"]) == result["submitted"], result
        assert self.counts.get("ok", 0) > 0, result
        assert set(self.counts) <= self.allowed, self.counts
