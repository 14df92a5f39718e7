#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A hostile guest of our KVM: each wrong gate call is refused with its own code
and counted; the host's log stays silent, the other VM is served all along.
"""
import contextlib
import errno
import re
import struct

from ours import FAR, Hammer, dmesg, host, lkm, named, shared_l2, status, wait_status

from harness import case, comment, driver_file, main, wait_connected, wait_for
from harness.gate import (BIND, EXIT, INIT_HOST, KERNEL, MAIN, NO_SLOT, NULL, NULL_ANSWER, PERFORM,
                          REPLY, UNBIND, WAIT, Gate, init_host)

NAME = "hostile"
INIT_SIZE = 128 + 2 * 8
CORE, ECHO, SYSTEM_ERROR = 0, 1, 13


class KernelGate(Gate):
    """Calls servers of the host's kernel."""

    def __call__(self, op, a0=0, a1=0, a2=0, how=""):
        return super().__call__(op if op == NULL else op | KERNEL, a0, a1, a2, how)

    def vmm(self, op, a0=0, a1=0, a2=0):
        """A call of a server in QEMU."""
        return super().__call__(op, a0, a1, a2)


def gate():
    """The hostile guest, and a neighbour that calls go to."""
    l1 = host()
    shared_l2(l1, slot=1, **named("neighbour", 2, memory="128M"))
    return KernelGate(shared_l2(l1, **named(NAME, 1, smp=2, memory="192M", share="/")), "vmmcall")


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
        r.expect(g.bind("MOD_RVMRPC", "2"), "BAD_VERSION")
        r.expect(g(BIND, g.put(b"x" * 64)), "BAD_ARGS")
        handle = g.bind("MOD_RVMRPC")
        for bad in (handle + 1, handle ^ 0x10000, 0xffffffff):
            r.expect(g(PERFORM, bad), "BAD_HANDLE", bad)
            r.expect(g(UNBIND, bad), "BAD_HANDLE", bad)
        for function in (0, 5, 0xffffffff):
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
    with unharmed(g, r):
        proxy = g.bind("MOD_RVMRPC")
        for bad in (0, 0x1000, g.at["buffer_end"], g.at["regs"], 1 << 63, (1 << 64) - 1,
                    g.at["buffer_end"] - 4, 0xffff_8000_0000_0000):
            r.expect(g(BIND, bad), "FAULT", hex(bad))
            r.expect(g.perform(proxy, INIT_HOST, bad, INIT_SIZE), "FAULT", hex(bad))
        good = g.put(init_host())
        for size in (0, 127, 128, 1 << 32, 1 << 63, (1 << 64) - 1):
            r.expect(g.perform(proxy, INIT_HOST, good, size), "BAD_ARGS", size)


@case("registrations with bad sizes, flags and pages", timeout=240)
def bad_init():
    """The epoch that there is goes on."""
    g, r = gate(), Refusals()
    ram = g.at["buffer_gpa"]
    cases = [
        ({"magic": 1}, "BAD_ARGS"), ({"size": 0xffffffff}, "BAD_ARGS"),
        ({"abi_min": 2, "abi_max": 2}, "BAD_VERSION"), ({"nslots": 0}, "BAD_ARGS"),
        ({"nslots": 65535}, "BAD_ARGS"), ({"req_pages": 257}, "BAD_ARGS"),
        ({"res_pages": 65535}, "BAD_ARGS"), ({"flags": 1}, "BAD_ARGS"), ({"answer0": 1}, "BAD_ARGS"),
        ({"reserved": 1}, "BAD_ARGS"), ({"gpa0": ram + 8}, "BAD_ARGS"),
        ({"gpa1": 1 << 52}, "BAD_ARGS"), ({"gpa1": g.at["regs_gpa"]}, "FAULT"),
        ({"gpa0": 0xfee00000}, "FAULT"), ({"gpa0": 1 << 40}, "FAULT")]
    with unharmed(g, r):
        proxy = g.bind("MOD_RVMRPC")
        for changes, code in cases:
            gva = g.put(init_host(**{"gpa0": ram, "gpa1": ram, **changes}))
            r.expect(g.perform(proxy, INIT_HOST, gva, INIT_SIZE), code, changes)


@case("wrong epochs, free and unknown slots, unknown flags", timeout=240)
def bad_main():
    """Replies that nobody waits for are counted as bad."""
    g, r = gate(), Refusals()
    bad = [0, 3, 4, 63, 64, 1000, 0x7fffffff, 0xfffffffe]
    with unharmed(g, r) as before:
        proxy, epoch = g.bind("MOD_RVMRPC"), before["epoch"]
        for wrong in (0, epoch ^ 1, (1 << 64) - 1):
            r.expect(g.perform(proxy, MAIN, wrong, NO_SLOT), "RESET")
            r.expect(g.perform(proxy, REPLY, wrong, 0), "RESET")
            r.expect(g.perform(proxy, EXIT, wrong), "RESET")
        for flags in (2, 4, 1 << 31):
            r.expect(g.perform(proxy, MAIN, epoch, NO_SLOT | flags << 32), "BAD_ARGS", flags)
        for slot in bad:
            r.expect(g.perform(proxy, MAIN, epoch, slot), "BAD_ARGS", slot)
            r.expect(g.perform(proxy, REPLY, epoch, slot), "BAD_ARGS", slot)
        r.expect(g.perform(proxy, REPLY, epoch, 1 << 32), "BAD_ARGS")
        g.arm(proxy, epoch)
    assert status(g.vm.l1, NAME)["bad_replies"] == before["bad_replies"] + 2 * len(bad)


@case("with interrupts off a poll does not wait", timeout=240)
def interrupts_off():
    """Nothing could end the wait; with them on it lasts its time."""
    g = gate()
    with unharmed(g) as before:
        proxy, epoch = g.bind("MOD_RVMRPC"), before["epoch"]
        for _ in range(5):
            waits = status(g.vm.l1, NAME)["waits"]
            assert g.perform(proxy, MAIN, epoch, NO_SLOT | WAIT, how="noirq") == "AGAIN"
            assert status(g.vm.l1, NAME)["waits"] == waits
        assert g.perform(proxy, MAIN, epoch, NO_SLOT | WAIT) == "AGAIN"
        assert status(g.vm.l1, NAME)["waits"] == waits + 1
        g.arm(proxy, epoch)


@case("user space of the guest has no gate", timeout=240)
def user_space():
    """VMMCALL at CPL 3 is KVM's own, and answers as on stock: not permitted."""
    g = gate()
    with unharmed(g) as before:
        text = g.vm.guest.check("user-gate vmmcall").strip()
        # -EPERM of KVM's hypercalls.
        assert int(text, 16) in (0xffffffffffffffff, 0xffffffff), text
        assert status(g.vm.l1, NAME)["hypercalls"] - before["hypercalls"] < 20


@case("a guest of the guest has no gate: its call is its own hypervisor's", timeout=240)
def nested_guest():
    """Debian's KVM in L2 runs a VM, and answers as any KVM does: there is no such hypercall."""
    g = gate()
    guest = g.vm.guest
    with unharmed(g) as before:
        guest.check("mount -t 9p -o trans=virtio,ro share /mnt; cd /mnt/lib/modules/$(uname -r)/kernel && "
                    "for m in virt/lib/irqbypass drivers/crypto/ccp/ccp arch/x86/kvm/kvm "
                    "arch/x86/kvm/kvm-amd; do insmod $m.ko || exit 1; done", timeout=60)
        text = guest.check("/mnt/clients/l3_gate", timeout=60).strip()
        # -KVM_ENOSYS, in 64 bits.
        assert text == f"0x{(1 << 64) - 1000:x}", text
        assert status(g.vm.l1, NAME)["hypercalls"] - before["hypercalls"] < 20
        guest.check("rmmod kvm_amd kvm ccp irqbypass; umount /mnt", timeout=60)


def own_slot(g):
    """Registers one slot of the test's own pages, and keeps the driver away: (proxy, epoch)."""
    proxy = g.bind("MOD_RVMRPC")
    ram = g.at["buffer_gpa"]
    # Request and response are one page, that of the registration.
    gva = g.put(init_host(gpa0=ram, gpa1=ram, release=b"hostile"))
    before = status(g.vm.l1, NAME)["calls"]
    assert g.perform(proxy, INIT_HOST, gva, INIT_SIZE) == 0
    # QEMU asks any new driver for its procedures; the time for that is not the next call's.
    now = wait_status(g.vm.l1, NAME, lambda s: s["calls"] > before, 30, "QEMU's own call")
    assert wait_for(lambda: poll(g, proxy, now["epoch"], CORE), 30, "QEMU's own request")
    return proxy, now["epoch"]


def poll(g, proxy, epoch, module=ECHO):
    """The header of a call of that module that has come, which is in slot 0, the only one. QEMU's own are refused."""
    answer = g.perform(proxy, MAIN, epoch, NO_SLOT)
    assert answer in ("AGAIN", 0), answer
    if answer:
        return None
    header = request(g)
    called, = struct.unpack_from("<I", header, 24)
    if called != ECHO:
        reply(g, proxy, epoch, header, 36, SYSTEM_ERROR)
    return header if called == module else None


def reply(g, proxy, epoch, header, field, value):
    """Sends a request's header back, with one u32 of it changed."""
    header = bytearray(header)
    header[44:48] = bytes(4)
    struct.pack_into("<I", header, field, value)
    g.put(bytes(header))
    assert g.perform(proxy, REPLY, epoch, 0) == 0


def request(g):
    """The header that the host wrote."""
    return bytes.fromhex(g.vm.guest.check(f"xxd -p -l 64 {g.FOLDER}/buffer"))


def answer_wrongly(g, proxy, epoch, field, value, timeout_ms=50000):
    """Has a call of the host answered with a header of which one u32 is wrong; its log."""
    l1 = g.vm.l1
    dmesg(l1)
    started = l1.guest.start(f"insmod /clients/rvmrpc_test_client.ko uuid={FAR}1 threads=1 calls=1 "
                             f"size=64 timeout_ms={timeout_ms} keep=1 && rmmod rvmrpc_test_client", timeout=60)
    header = wait_for(lambda: poll(g, proxy, epoch), 30, "a request")
    reply(g, proxy, epoch, header, field, value)
    code, text = l1.guest.finish(started)
    assert code == 0, (field, text)
    return dmesg(l1)


def answer_as_another(g, proxy, epoch, field):
    """As answer_wrongly(), for a call that goes on to its deadline, which the reply has to come before: it takes
    the guest's shell some commands. The counters' growth.
    """
    l1 = g.vm.l1
    for timeout_ms in (10000, 20000, 40000):
        before = status(l1, NAME)
        log = answer_wrongly(g, proxy, epoch, field, 0x12345678, timeout_ms)
        assert f"failed 1 error {-errno.ETIMEDOUT}" in log, (field, log)
        after = status(l1, NAME)
        grown = {key: after[key] - before[key] for key in ("timed_out", "bad_replies", "late_replies")}
        if not grown["late_replies"]:
            break
        comment(f"the reply came after {timeout_ms} ms")
    return grown


def unbind(vm):
    """Takes the driver off its device; the device's name."""
    name = vm.guest.check("basename /sys/bus/pci/drivers/rvmrpc/0000:*").strip()
    vm.guest.check(f"echo {name} >/sys/bus/pci/drivers/rvmrpc/unbind")
    return name


@case("an overlapping slot of a guest's own, and replies with wrong headers", timeout=400)
def bad_replies():
    """One that is another call's is no answer: the call goes on to its deadline, and the slot is the
    guest's until it answers. One that is this call's and wrong ends it. Then the driver is back.
    """
    g = gate()
    l1, vm = g.vm.l1, g.vm
    device = unbind(vm)
    proxy, epoch = own_slot(g)
    for field in (8, 16):               # epoch, xid
        grown = answer_as_another(g, proxy, epoch, field)
        assert grown == {"timed_out": 1, "bad_replies": 1, "late_replies": 0}, (field, grown)
        late = status(l1, NAME)["late_replies"]
        answer = g.perform(proxy, REPLY, epoch, 0)
        now = status(l1, NAME)
        assert answer == 0 and now["late_replies"] == late + 1, (field, answer, now)
    # flags, status (none, and one that is the host's), length, reserved
    for field, value in ((32, 1), (36, 14), (36, 8), (40, 0xffffffff), (40, 4096), (48, 1)):
        log = answer_wrongly(g, proxy, epoch, field, value)
        assert f"failed 1 error {-errno.EIO}" in log, (field, log)
    assert status(l1, NAME)["in_flight"] == 0
    assert g.perform(proxy, EXIT, epoch) == 0
    vm.guest.check(f"echo {device} >/sys/bus/pci/drivers/rvmrpc/bind")
    wait_connected(vm, epoch, timeout=60)
    assert driver_file(vm, "state") == "connected"
    for name in (NAME, "neighbour"):
        assert "right 40 wrong 0" in lkm(l1, "rvmrpc_test_client", f"name={name} threads=2 calls=20")


if __name__ == "__main__":
    main()
