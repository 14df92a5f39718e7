#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls from the guest to its host: the paper's examples, and gate calls that
are wrong in every way. Each is refused with its own code, the host's log stays
silent, and the channel works afterwards.
"""
import re
import struct
import time

from harness import VM, call, case, comment, counters, insmod, least_seconds, main, shared, stats, wait_for
from harness.gate import BIND, KERNEL, MAIN, NULL, NULL_ANSWER, PERFORM, TAG, UNBIND, WAIT, Gate
from harness.wait import Deadline

ALLOW = "rvmrpc.allow=default,0x100.*"
HOST_EPOCH = 64     # offset in the window
LOG = "log=1G"


def gate(kind):
    """A guest on which that gate can be tried beside the driver."""
    return Gate(shared(append=ALLOW, device_opts=LOG), kind)


def works(vm):
    """The channel is as good as new, and nothing was lost on the way."""
    for data in (b"", b"x" * 3000):
        assert call(vm.qmp, "echo", "echo", data, timeout=5000) == ("ok", data)
    assert vm.query()["state"] == "connected"


def unharmed(vm, before, log):
    """Epoch and the host's log are the same as before."""
    assert vm.query()["epoch"] == before["epoch"], "the driver lost its epoch"
    assert vm.log_text() == log, vm.log_text()[len(log):]
    works(vm)


@case("figure 1: a line of the guest's kernel is printed by the host")
def figure_1():
    """By the server "log" of the VMM; there is none in the host's kernel here."""
    vm = shared(append=ALLOW, device_opts=LOG)
    vm.guest.check("insmod /lib/rvmrpc/vmrpc_print_example.ko space=vmm "
                   "message='\"Hello from figure 1\"'")
    assert "rvmrpc: guest: Hello from figure 1\n" in vm.log_text()
    vm.guest.check("rmmod vmrpc_print_example")
    assert vm.guest.run("insmod /lib/rvmrpc/vmrpc_print_example.ko space=kernel")[0]
    assert "the host does not print: -ENOENT" in vm.guest.check("dmesg | tail -n 3")
    works(vm)


@case("figure 5: a server module out of tree answers the host")
def figure_5():
    """Loaded at run time, by its number; gone when it is unloaded."""
    vm = shared(append=ALLOW, device_opts=LOG)
    assert call(vm.qmp, 0x100, 0, b"x")[0] == "module-unavailable"
    insmod(vm, "rvmrpc_echo_example")
    assert call(vm.qmp, 0x100, 0, b"hello, guest") == ("ok", b"hello, guest")
    assert call(vm.qmp, 0x100, 0, bytes(range(256))) == ("ok", bytes(range(256)))
    assert "hello, guest" in vm.guest.check("dmesg | tail -n 5")
    assert call(vm.qmp, 0x100, 1, b"x")[0] == "procedure-unavailable"
    vm.guest.check("rmmod rvmrpc_echo_example")
    assert call(vm.qmp, 0x100, 0, b"x")[0] == "module-unavailable"
    works(vm)


@case("NULL, BIND, PERFORM and UNBIND by VMCALL", kind="vmcall")
@case("NULL, BIND, PERFORM and UNBIND by VMMCALL", kind="vmmcall")
@case("NULL, BIND, PERFORM and UNBIND by the doorbell", kind="doorbell")
def calls(kind):
    """A binding is valid on any gate; text is escaped in the host's log."""
    g = gate(kind)
    assert g(NULL) == NULL_ANSWER
    handle = g.bind("log")
    assert isinstance(handle, int), handle
    text = f"by {kind}: \x1b[31m\"red\"\x07\x80".encode("latin-1")
    assert g.perform(handle, 0, g.put(text), len(text)) == 0
    assert f'rvmrpc: guest: by {kind}: \\033[31m"red"\\007\\200\n' in g.vm.log_text()
    assert "\x1b" not in g.vm.log_text()
    assert g(UNBIND, handle) == 0
    works(g.vm)


@case("bad operations, handles and names, by the hypercall", kind="vmmcall")
@case("bad operations, handles and names, by the doorbell", kind="doorbell")
def bad_calls(kind):
    """Each has its own code."""
    g = gate(kind)
    before, log = g.vm.query(), g.vm.log_text()
    for op in (4, 99, KERNEL, 1 << 32, (1 << 64) - 1):
        assert g(op) == "BAD_OP", op
    for op in (BIND, PERFORM, UNBIND):
        assert g(op | KERNEL) == "NO_MODULE", op
    assert g.bind("nonsense") == "NO_MODULE"
    assert g.bind("") == "NO_MODULE"
    assert g.bind("log", "2") == "BAD_VERSION"
    assert g(BIND, g.put(b"x" * 64)) == "BAD_ARGS"
    assert g(BIND, g.put(b"log".ljust(32, b"\0") + b"1" * 32)) == "BAD_ARGS"
    good = g.put(b"log".ljust(32, b"\0") + b"1".ljust(32, b"\0"))
    assert g(BIND, good, 1) == "BAD_ARGS" and g(BIND, good, 0, 1) == "BAD_ARGS"
    handle = g.bind("log")
    for bad in (0, handle + 1, handle ^ 0x10000, 0xffffffff):
        assert g(PERFORM, bad) == "BAD_HANDLE" and g(UNBIND, bad) == "BAD_HANDLE", bad
    assert g.perform(handle, 7) == "NO_PROCEDURE"
    assert g.perform(handle, 0, g.put(b"x"), 1025) == "BAD_ARGS"
    assert g.perform(handle, 0, g.put(b"x"), (1 << 64) - 1) == "BAD_ARGS"
    unharmed(g.vm, before, log)


@case("bad addresses, by the hypercall", kind="vmmcall")
@case("bad addresses, by the doorbell", kind="doorbell")
def bad_addresses(kind):
    """Not mapped, not canonical, of a device, across the end of what is mapped."""
    g = gate(kind)
    before, log = g.vm.query(), g.vm.log_text()
    handle = g.bind("log")
    reads = stats(g.vm)["doorbells"]
    for bad in (0, 0x1000, g.at["buffer_end"], g.at["regs"], 1 << 63, (1 << 64) - 1,
                g.at["buffer_end"] - 4, 0xffff_8000_0000_0000):
        assert g(BIND, bad) == "FAULT", hex(bad)
        assert g.perform(handle, 0, bad, 8) == "FAULT", hex(bad)
    if kind != "doorbell":
        assert stats(g.vm)["doorbells"] == reads, "a device's register was touched"
    unharmed(g.vm, before, log)


@case("a bad MAIN, by the hypercall", kind="vmmcall")
@case("a bad MAIN, by the doorbell", kind="doorbell")
def bad_main(kind):
    """Wrong epochs and versions, what is there no more: the channel goes on, since it is not there."""
    g = gate(kind)
    before, log = g.vm.query(), g.vm.log_text()
    assert g.bind("MOD_RVMRPC", "1") == "BAD_VERSION"
    proxy, epoch = g.bind("MOD_RVMRPC", "2"), before["epoch"]
    seen = g.posted()
    for wrong in (0, epoch ^ 1, (1 << 64) - 1):
        assert g.perform(proxy, MAIN, wrong, seen) == "RESET"
        assert g.perform(proxy, MAIN, wrong, seen | WAIT) == "RESET"
    for old in (seen - 1, seen + 1, seen ^ 1 << 31):
        assert g.perform(proxy, MAIN, epoch, old & 0xffffffff | WAIT) == 0, "it is posted, or never was"
    assert g.perform(proxy, MAIN, epoch, seen) == "AGAIN"
    for function in (0, 1, 3, 4, 5, 0xffffffff):
        assert g.perform(proxy, function, epoch) == "NO_PROCEDURE", function
    unharmed(g.vm, before, log)


@case("doorbells for frames that are none: ignored, the frame is not touched")
def bad_frames():
    """Not aligned, not RAM; reserved words; a write of another size."""
    g = gate("doorbell")
    before, log = g.vm.query(), g.vm.log_text()
    frame = g.at["frame_gpa"]
    for gpa in (frame + 8, frame + 1, g.at["regs_gpa"], 1 << 40, (1 << 64) - 64,
                0xfee00000, 0xfffffffffffff000):
        assert g.raw(0, gpa, kind="ring") == "0x0", hex(gpa)
    for offset in range(40, 64, 8):
        g.put(b"\0" * 64)
        g.put(b"\1", at=offset)
        g.raw(0, g.at["buffer_gpa"], kind="ring")
        answer = g.vm.guest.check(f"dd if={g.FOLDER}/buffer bs=8 skip=4 count=1 2>/dev/null "
                                  "| xxd -p").strip()
        assert bytes.fromhex(answer) == struct.pack("<II", 0x80000008, TAG), (offset, answer)
    g.put(b"\0" * 64)
    assert g(NULL) == NULL_ANSWER
    unharmed(g.vm, before, log)


@case("MAIN with a wait: at most 1 s; with interrupts off not at all")
def waits():
    """What could not be woken does not wait."""
    g = gate("vmmcall")
    before, log = g.vm.query(), g.vm.log_text()
    proxy, epoch, seen = g.bind("MOD_RVMRPC", "2"), before["epoch"], g.posted()
    for us, most in ((20_000, 0.7), (0xffffffff, 2)):
        def waits_once(us=us):
            waited = stats(g.vm)["waits"]
            assert g.perform(proxy, MAIN, epoch, seen | us << 32) == "AGAIN"
            assert stats(g.vm)["waits"] == waited + 1
        assert least_seconds(waits_once, most) < most, us
    waited = stats(g.vm)["waits"]
    assert g.perform(proxy, MAIN, epoch, seen | WAIT, how="noirq") == "AGAIN"
    assert stats(g.vm)["waits"] == waited
    unharmed(g.vm, before, log)


@case("a guest that writes all over its window: statuses, an event, and it works after that", timeout=120)
def scribbled():
    """As a root of the guest can, by its device's resource file."""
    with VM(append=f"iomem=relaxed {ALLOW}", smp=2) as vm:
        wait_for(lambda: vm.query()["state"] == "connected", 20, "the driver")
        vm.qmp.take_events()
        window = vm.guest.check("echo /sys/bus/pci/drivers/rvmrpc/0000:*/resource2").strip()
        vm.guest.check(f"(scribble-window {window} 5 >/dev/null 2>&1 &)")
        known = {"ok", "reset", "not-connected", "timed-out", "busy", "system-error", "garbage-args", "too-big",
                 "module-unavailable", "procedure-unavailable", "not-allowed", "version-mismatch"}
        end = time.monotonic() + 4
        while time.monotonic() < end:
            assert call(vm.qmp, "echo", 0, b"x", timeout=50)[0] in known
        vm.qmp.wait_event("RVMRPC_DISCONNECTED")
        wait_for(lambda: call(vm.qmp, "echo", 0, b"back", timeout=1000) == ("ok", b"back"), 15, "the channel")
        assert stats(vm)["lost"] > 0


@case("epochs that do not last: the driver waits longer each time, and says it once", timeout=150)
def unsteady():
    """The word that ends an epoch is overwritten four times a second, for 20 s, or until a busy host saw 5 epochs.

    Between two times a hello and its answer must fit, or no epoch begins.
    """
    with VM(append=f"iomem=relaxed {ALLOW}", smp=2) as vm:
        wait_for(lambda: vm.query()["state"] == "connected", 20, "the driver")
        window = vm.guest.check("echo /sys/bus/pci/drivers/rvmrpc/0000:*/resource2").strip()
        scribbler = vm.guest.check(f"scribble-window {window} 110 {HOST_EPOCH} 250000 >/dev/null 2>&1 & echo $!").strip()
        start, connects, seconds = time.monotonic(), 0, 0
        while seconds < 20 or (connects < 5 and seconds < 100):
            call(vm.qmp, "echo", 0, b"x", timeout=50)
            seconds = time.monotonic() - start
            if seconds >= 20:
                connects = counters(vm)["connects"]
        vm.guest.check(f"kill {scribbler}")
        wait_for(lambda: call(vm.qmp, "echo", 0, b"back", timeout=1000) == ("ok", b"back"), 15, "the channel")
        lines = vm.guest.check("dmesg | grep -E 'rvmrpc .*(connected:|overwritten)'").splitlines()
        comment(f"{connects} epochs in {seconds:.0f} s, {len(lines)} lines")
        assert 5 <= connects <= 1.75 * seconds, connects
        assert len(lines) <= 2, lines


@case("a flood of lines for the log is cut, and the host says how many it dropped", timeout=60)
def flood():
    """A guest cannot fill the host's disk."""
    g = Gate(shared(append=ALLOW, device_opts=LOG), "vmmcall")
    time.sleep(1.1)
    handle = g.bind("log")
    gva = g.put(b"flood")
    log = g.vm.log_text()
    words = f"vmmcall 2 {handle:x} {gva:x} 5"
    start = time.monotonic()
    g.vm.guest.check(f"i=0; while [ $i -lt 1000 ]; do echo '{words}' > {g.FOLDER}/call; "
                     "i=$((i + 1)); done")
    seconds = time.monotonic() - start
    time.sleep(1.1)
    assert g.perform(handle, 0, gva, 5) == 0
    new = g.vm.log_text()[len(log):]
    lines = new.count("rvmrpc: guest: flood")
    dropped = sum(int(n) for n in re.findall(r"dropped (\d+) lines", new))
    comment(f"{lines} lines, {dropped} dropped, in {seconds:.1f} s")
    assert dropped > 0 and lines <= 50 * (seconds + 2) and lines + dropped == 1001
    works(g.vm)


@case("the host's log is the guest's only where it was said, and as much a day as was said")
def log_budget():
    """Off by default."""
    with VM(append=ALLOW) as vm:
        g = Gate(vm, "vmmcall")
        assert g.bind("log") == "NO_MODULE"
        assert g.bind("MOD_RVMRPC", "2") not in ("NO_MODULE", "BAD_VERSION")
    with VM(append=ALLOW, device_opts="log=4K") as vm:
        g = Gate(vm, "vmmcall")
        handle, text = g.bind("log"), g.put(b"x" * 200)
        before = len(vm.log_text())
        for _ in range(25):
            assert g.perform(handle, 0, text, 200) == 0
        came = vm.log_text()[before:]
        assert came.count("rvmrpc: guest: x") == 4096 // (200 + 64), came
        assert came.count("the rest of the day is dropped") == 1 and len(came) < 4500, came
        works(vm)


@case("a vCPU that is unplugged while it waits in the host leaves nothing behind")
def vcpu_unplugged():
    """By the guest's own hand, which asks nobody whether the CPU is idle."""
    with VM(smp=2, append=ALLOW, extra=["-trace", "rvmrpc_wait*"]) as vm:
        g = Gate(vm, "vmmcall")
        words = (PERFORM, g.bind("MOD_RVMRPC", "2") | MAIN << 32, vm.query()["epoch"], g.posted() | WAIT)
        text = " ".join(f"{word:x}" for word in words)
        vm.guest.check(f"taskset 2 sh -c 'echo vmmcall {text} again > {g.FOLDER}/call' >/dev/null 2>&1 &")
        wait_for(lambda: "rvmrpc_wait cpu 1" in vm.log_text(), 10, "a wait")
        # The control of ACPI's CPU hotplug: which one, and to eject it, from the other: QEMU's thread of a vCPU that ejects
        # itself would wait for its own end. The guest does not get over that.
        vm.guest.check("taskset -p 1 $$ >/dev/null; (printf '\\1' | dd of=/dev/port bs=1 seek=44800 conv=notrunc; "
                       "printf '\\10' >/tmp/eject) 2>/dev/null")
        vm.guest.start("taskset 1 dd if=/tmp/eject of=/dev/port bs=1 seek=44804 conv=notrunc 2>/dev/null")
        vm.qmp.wait_event("DEVICE_DELETED", timeout=30)
        assert len(vm.qmp.cmd("query-cpus-fast")) == 1
        log = vm.log_text()
        begun, at_unplug = log.count("rvmrpc_wait cpu 1"), log.count(": unplugged")
        ended = log.count("rvmrpc_wait_end cpu 1:") + at_unplug
        comment(f"{begun} waits, {ended} ends, {at_unplug} of them by the unplug")
        assert begun == ended, (begun, ended)
        # Its kernel would complain of the CPU that it misses.
        vm.process.kill()
        vm.process.wait()


@case("user space cannot call the host: VMCALL and VMMCALL at CPL 3 are #UD")
def user_space():
    """With the device there, and the driver at work."""
    vm = shared(append=ALLOW, device_opts=LOG)
    before = stats(vm)["hypercalls"]
    assert vm.guest.check("ls /bin/user-gate")
    for instruction in ("vmcall", "vmmcall"):
        status, text = vm.guest.run(f"user-gate {instruction}")
        assert status == 132, (status, text)
    assert stats(vm)["hypercalls"] - before < 50
    works(vm)


@case("user space that has the device's registers cannot call the host by the doorbell")
def user_doorbell():
    """As with vfio: a name of its own memory, in a frame of its own memory."""
    with VM(append=f"iomem=relaxed {ALLOW}", device_opts=f"hypercall=off,addr=7,{LOG}") as vm:
        g = Gate(vm, "doorbell")
        assert isinstance(g.bind("log"), int)
        answer = int(vm.guest.check("user-gate doorbell /sys/bus/pci/devices/0000:00:07.0/resource0"), 16)
        assert answer == TAG << 32 | 0x8000000b, hex(answer)
        works(vm)


@case("behind an IOMMU the doorbell reaches what the driver has mapped, and nothing else")
def iommu():
    """The device's DMA address space, and what it may do in it."""
    with VM(machine="q35", append=f"intel_iommu=on iommu.passthrough=0 iommu.strict=1 {ALLOW}",
            extra=["-device", "intel-iommu"], device_opts=f"hypercall=off,{LOG}") as vm:
        assert vm.query()["gate"] == "doorbell"
        vm.guest.check("insmod /lib/rvmrpc/vmrpc_print_example.ko space=vmm message='\"behind it\"'")
        assert "rvmrpc: guest: behind it\n" in vm.log_text()
        # The module's frame has no mapping for the device.
        assert Gate(vm, "doorbell").raw(NULL) == "0x0"
        works(vm)


@case("with hypercall=off, VMCALL and VMMCALL are #UD in the kernel too; the doorbell serves")
def no_hypercall():
    """As on a stock machine."""
    with VM(append=ALLOW, device_opts="hypercall=off") as vm:
        g = Gate(vm, "doorbell")
        assert g.raw(NULL, kind="vmcall") == g.raw(NULL, kind="vmmcall") == "#UD"
        assert g(NULL) == NULL_ANSWER
        works(vm)


@case("the device's registers are read right while another CPU maps and unmaps other devices", how="read",
      least=500)
@case("the same by atomic accesses, which run apart from other CPUs", how="xadd", least=100)
def reads_while_mapping(how, least):
    """Stock QEMU reads another device's now and then, or aborts (qemu/patches, "keep the section of a TLB entry")."""
    slots = (4, 5, 6)
    with VM(smp=2, device_opts="addr=0x7",
            extra=[word for slot in slots for word in ("-device", f"pci-testdev,addr={slot:#x}")]) as vm:
        vm.guest.check("rmmod rvmrpc")
        folder = "/sys/bus/pci/devices/0000:00:0"
        vm.guest.check(f"echo 1 >{folder}7.0/enable")
        configs = " ".join(f"{folder}{slot}.0/config" for slot in slots)
        reads = mapped = 0
        # A host with other work maps but a few times a second.
        bound = Deadline(80, f"{least} maps")
        while reads <= 10000 or mapped <= least:
            text = vm.guest.check(f"map-race {how} {folder}7.0/resource0 4 {configs}", 30)
            more, wrong, maps = map(int, text.split())
            comment(f"{more} reads, {wrong} of them wrong, mapped and unmapped {maps} times")
            assert wrong == 0
            reads, mapped = reads + more, mapped + maps
            bound.left()


@case("with doorbell=off, a doorbell is ignored; the hypercall serves")
def no_doorbell():
    """Its frame stays as it is."""
    with VM(append=ALLOW, device_opts="doorbell=off") as vm:
        g = Gate(vm, "vmmcall")
        assert g.raw(NULL, kind="doorbell") == "0x0"
        assert g(NULL) == NULL_ANSWER
        works(vm)


@case("without the device, VMCALL and VMMCALL are #UD; unplugged, too")
def no_device():
    """And with it again, they are served."""
    with VM(device=False) as vm:
        g = Gate(vm, "vmmcall")
        for kind in ("vmcall", "vmmcall"):
            assert g.raw(NULL, kind=kind) == "#UD"
        status, text = vm.guest.run("user-gate vmmcall")
        assert status == 132, (status, text)
    with VM(append=ALLOW, device_opts="id=rvmrpc0") as vm:
        g = Gate(vm, "vmmcall")
        assert g(NULL) == NULL_ANSWER
        vm.qmp.cmd("device_del", id="rvmrpc0")
        vm.qmp.wait_event("DEVICE_DELETED", match=lambda d: d.get("device") == "rvmrpc0")
        assert g.raw(NULL) == "#UD"
        vm.qmp.cmd("device_add", driver="rvmrpc", id="rvmrpc0")
        vm.wait_state()
        assert g(NULL) == NULL_ANSWER
        works(vm)


if __name__ == "__main__":
    main()
