#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A hostile guest of our KVM: each wrong gate call is refused with its own code
and counted; the host's log stays silent, the other VM is served all along. And
guests that write all over the window that the host's kernel owns.
"""
import contextlib
import lzma
import re
import time

from foes import NAME, foe, scribble
from levels import L2_MODULES
from ours import Hammer, L2, dmesg, host, status, vms

from harness import balloon_window, call, case, comment, main, set_parameter, wait_for
from harness.gate import BIND, KERNEL, MAIN, NULL, NULL_ANSWER, PERFORM, UNBIND, WAIT, Gate

STATUS = {"ok", "reset", "not-connected", "timed-out", "busy", "system-error", "garbage-args", "too-big",
          "module-unavailable", "procedure-unavailable", "not-allowed", "version-mismatch"}


class KernelGate(Gate):
    """Calls servers of the host's kernel."""

    def __call__(self, op, a0=0, a1=0, a2=0, how=""):
        return super().__call__(op if op == NULL else op | KERNEL, a0, a1, a2, how)

    def vmm(self, op, a0=0, a1=0, a2=0):
        """A call of a server in QEMU."""
        return super().__call__(op, a0, a1, a2)


def gate():
    """The hostile guest's; a neighbour that calls go to is there, too."""
    return KernelGate(foe(), "vmmcall")


@contextlib.contextmanager
def unharmed(g, refused=None):
    """The host's log is silent, the neighbour served; so many calls were refused, and counted."""
    l1 = g.vm.l1
    dmesg(l1)
    before = status(l1, NAME)
    # Not more than it takes: the two share the host's two emulated CPUs.
    with Hammer(l1, "neighbour", 1, pause_us=20000):
        yield before
    after = status(l1, NAME)
    counted = after["refused_calls"] - before["refused_calls"]
    assert refused is None or counted == refused(), (counted, refused())
    # The host is slow, and its clocks may complain.
    said = [line for line in dmesg(l1).splitlines() if re.search("kvm|vmrpc|vmlp|BUG|WARNING", line)]
    assert not said, said
    assert after["epoch"] == before["epoch"], "the driver lost its epoch"
    assert g.vm.qmp.cmd("guest-meminfo")["total"] > 0


class Refusals:
    """Counts what it saw refused."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        return self.count

    def expect(self, answer, code, what=None):
        """One more."""
        assert answer == code, (what, answer, code)
        self.count += 1


@case("unknown operations, handles and names", timeout=240)
def bad_calls():
    """Each has its own code; those for QEMU are refused there, and never stop the VM."""
    g, r = gate(), Refusals()
    with unharmed(g, r) as before:
        for op in (4, 99, 1 << 32, (1 << 64) - 1 - KERNEL):
            r.expect(g(op), "BAD_OP", op)
        r.expect(g.bind("nonsense"), "NO_MODULE")
        r.expect(g.bind(""), "NO_MODULE")
        r.expect(g.bind("MOD_RVMRPC", "1"), "BAD_VERSION")
        r.expect(g(BIND, g.put(b"x" * 64)), "BAD_ARGS")
        handle = g.bind("MOD_RVMRPC", "2")
        for bad in (handle + 1, handle ^ 0x10000, 0xffffffff):
            r.expect(g(PERFORM, bad), "BAD_HANDLE", bad)
            r.expect(g(UNBIND, bad), "BAD_HANDLE", bad)
        for function in (0, 1, 3, 4, 5, 0xffffffff):
            r.expect(g.perform(handle, function), "NO_PROCEDURE", function)
        exits = status(g.vm.l1, NAME)["user_exits"]
        assert exits == before["user_exits"]
        assert g.vmm(PERFORM, handle) == "BAD_HANDLE" and g.vmm(UNBIND, 7) == "BAD_HANDLE"
        assert g.vmm(BIND, g.put(b"none".ljust(64, b"\0"))) == "NO_MODULE"
        assert status(g.vm.l1, NAME)["user_exits"] == exits + 3
        assert g(NULL) == NULL_ANSWER


@case("addresses that are not mapped, not canonical, a device's, or across an end", timeout=240)
def bad_addresses():
    """Refused by the walk; no device's register is touched, nothing of the host's."""
    g, r = gate(), Refusals()
    l1 = g.vm.l1
    l1.guest.check("insmod /clients/vmrpc_print_server.ko")
    with unharmed(g, r):
        handle = g.bind("MOD_PRINT")
        assert isinstance(handle, int), handle
        for bad in (0, 0x1000, g.at["buffer_end"], g.at["regs"], 1 << 63, (1 << 64) - 1,
                    g.at["buffer_end"] - 4, 0xffff_8000_0000_0000):
            r.expect(g(BIND, bad), "FAULT", hex(bad))
            r.expect(g.perform(handle, 0, bad, 8), "FAULT", hex(bad))
        good = g.put(b"x" * 64)
        for size in (1 << 32, 1 << 63, (1 << 64) - 1):
            r.expect(g.perform(handle, 0, good, size), "BAD_ARGS", size)
        assert g(UNBIND, handle) == 0
    l1.guest.check("rmmod vmrpc_print_server")


@case("RVMRPC_MAIN with wrong epochs, requests that never were, and huge waits", timeout=240)
def bad_main():
    """None waits but for a request that may come, and that at most a second."""
    g, r = gate(), Refusals()
    with unharmed(g, r) as before:
        proxy, epoch, seen = g.bind("MOD_RVMRPC", "2"), before["epoch"], g.posted()
        for wrong in (0, epoch ^ 1, (1 << 64) - 1):
            for wait in (0, WAIT, 0xffffffff << 32):
                r.expect(g.perform(proxy, MAIN, wrong, seen | wait), "RESET")
        waits = status(g.vm.l1, NAME)["waits"]
        for never in (seen - 1, seen + 1, seen ^ 1 << 31):
            assert g.perform(proxy, MAIN, epoch, never & 0xffffffff | WAIT) == 0, never
        assert status(g.vm.l1, NAME)["waits"] == waits
        start = time.monotonic()
        assert g.perform(proxy, MAIN, epoch, seen | 0xffffffff << 32) == "AGAIN"
        assert time.monotonic() - start < 10
        assert status(g.vm.l1, NAME)["waits"] == waits + 1
    assert status(g.vm.l1, NAME)["in_flight"] == 0


@case("with interrupts off RVMRPC_MAIN does not wait", timeout=240)
def interrupts_off():
    """Nothing could end the wait; with them on it lasts its time."""
    g = gate()
    with unharmed(g) as before:
        proxy, epoch, seen = g.bind("MOD_RVMRPC", "2"), before["epoch"], g.posted()
        for _ in range(5):
            waits = status(g.vm.l1, NAME)["waits"]
            assert g.perform(proxy, MAIN, epoch, seen | WAIT, how="noirq") == "AGAIN"
            assert status(g.vm.l1, NAME)["waits"] == waits
        assert g.perform(proxy, MAIN, epoch, seen | WAIT) == "AGAIN"
        assert status(g.vm.l1, NAME)["waits"] == waits + 1


@case("all vCPUs wait at once, for a request that they have seen and one that they have not", timeout=240)
def all_wait():
    """A post wakes each of them, whoever takes it; calls are answered meanwhile."""
    g = gate()
    vm = g.vm
    with unharmed(g):
        proxy, epoch = g.bind("MOD_RVMRPC", "2"), status(vm.l1, NAME)["epoch"]
        set_parameter(vm, "spin_us", 0)
        set_parameter(vm, "vmlp_idle_us", -1)
        loop = (f"taskset {{cpu:x}} sh -c 'for i in $(seq 1000); do echo vmmcall {PERFORM | KERNEL:x} "
                f"{proxy | MAIN << 32:x} {epoch:x} {{arg:x}} >{g.FOLDER}/call; done; >/tmp/done-{{cpu}}' &")
        vm.guest.check(loop.format(cpu=1, arg=g.posted() | 0xffffffff << 32) + " " +
                       loop.format(cpu=2, arg=20000 << 32) + " true")
        with Hammer(vm.l1, NAME, 4) as hammer:
            for _ in range(5):
                hammer.wait_calls()
        comment(f"{hammer.counts}, longest {hammer.result['longest_ms']} ms")
        vm.guest.check("while ! [ -e /tmp/done-1 -a -e /tmp/done-2 ]; do sleep 0.1; done", timeout=120)
        set_parameter(vm, "vmlp_idle_us", 50)


@case("user space of the guest has no gate", timeout=240)
def user_space():
    """VMMCALL at CPL 3 is KVM's own, and answers as on stock: not permitted."""
    g = gate()
    with unharmed(g) as before:
        text = g.vm.guest.check("user-gate vmmcall").strip()
        # -EPERM of KVM's hypercalls.
        assert int(text, 16) in (0xffffffffffffffff, 0xffffffff), text
        assert status(g.vm.l1, NAME)["hypercalls"] - before["hypercalls"] < 20


def l2_kvm(folder):
    """KVM of L2's kernel, which need not be L1's, in a folder; the modules' names, in the order of loading."""
    folder.mkdir()
    names = []
    # A debug kernel has no ccp, and needs none.
    for name in ("virt/lib/irqbypass", "drivers/crypto/ccp/ccp", "arch/x86/kvm/kvm", "arch/x86/kvm/kvm-amd"):
        for path in L2_MODULES.glob(f"{name}.ko*"):
            data = path.read_bytes()
            names.append(path.name.split(".")[0].replace("-", "_"))
            (folder / f"{names[-1]}.ko").write_bytes(lzma.decompress(data) if path.suffix == ".xz" else data)
    return names


@case("a guest of the guest has no gate: its call is its own hypervisor's", timeout=240)
def nested_guest():
    """Debian's KVM in L2 runs a VM, and answers as any KVM does: there is no such hypercall."""
    g = gate()
    guest = g.vm.guest
    names = l2_kvm(g.vm.l1.share / "l2-kvm")
    with unharmed(g) as before:
        guest.check("mount -t 9p -o trans=virtio,ro share /mnt; cd /mnt/share/l2-kvm && "
                    f"for m in {' '.join(names)}; do insmod $m.ko || exit 1; done", timeout=60)
        text = guest.check("/mnt/clients/l3_gate", timeout=60).strip()
        # -KVM_ENOSYS, in 64 bits.
        assert text == f"0x{(1 << 64) - 1000:x}", text
        assert status(g.vm.l1, NAME)["hypercalls"] - before["hypercalls"] < 20
        guest.check(f"cd /; rmmod {' '.join(reversed(names))}; umount /mnt", timeout=60)


@case("a guest that writes all over its window: statuses, and it is served again after that", timeout=240)
def scribbled():
    """Its neighbour does not feel it, the host's log says nothing."""
    vm = gate().vm
    l1 = vm.l1
    dmesg(l1)
    before = status(l1, NAME)
    with Hammer(l1, "neighbour", 1, pause_us=20000):
        scribble(vm, 8)
        end = time.monotonic() + 8
        while time.monotonic() < end:
            assert call(vm.qmp, "echo", 0, b"x", timeout=100)[0] in STATUS
        # It may have begun late.
        wait_for(lambda: vm.guest.run("pidof scribble-window")[0], 60, "its end")
        wait_for(lambda: call(vm.qmp, "echo", 0, b"back", timeout=2000) == ("ok", b"back"), 60, "the channel")
    after = status(l1, NAME)
    assert after["lost"] > before["lost"] and after["epoch"] != before["epoch"], (before, after)
    said = [line for line in dmesg(l1).splitlines() if re.search("kvm|vmrpc|vmlp|BUG|WARNING", line)]
    assert not said, said
    with Hammer(l1, NAME, 2):
        pass


@case("a guest that balloons its window: the kernel's clients get a status, and it is served again", timeout=400)
def balloons():
    """The kernel finds that its pages are no more the guest's, QEMU attaches those that are; the neighbour feels nothing."""
    vm = gate().vm
    l1 = vm.l1
    dmesg(l1)
    calm = status(l1, "neighbour")
    with Hammer(l1, "neighbour", 1, pause_us=20000), Hammer(l1, NAME, 4, STATUS, pause_us=5000) as hammer:
        for first, count in ((0, None), (3, 1)):
            before = status(l1, NAME)
            balloon_window(vm, first, count)
            wait_for(lambda before=before: vms(l1).get(NAME, before)["id"] != before["id"], 30, "another attachment",
                     interval=0.2)
            assert vm.wait_state(timeout=30)["proxy"] == "kernel"
            hammer.wait_calls()
        assert status(l1, "neighbour")["epoch"] == calm["epoch"]
    comment(f"{hammer.counts}")
    assert hammer.counts.get("reset", 0) + hammer.counts.get("not-connected", 0) > 0, hammer.counts
    said = [line for line in dmesg(l1).splitlines() if re.search("kvm|vmrpc|vmlp|BUG|WARNING", line)]
    assert not said, said
    assert call(vm.qmp, "echo", 0, b"after") == ("ok", b"after")


if __name__ == "__main__":
    main()
