#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's memory and the channel, which has none of it: a vCPU that is stuck in a page fault harms its own VM's
calls alone, and calls leave nothing in KVM's dirty log.
"""
import contextlib
import errno
import re
import signal
import time

from ours import (COMMAND, Hammer, L2, alone, dmesg, host, lkm, name_of, named, settled, shared_l2, status, vms,
                  with_command)

from harness import call, case, comment, main, wait_for

# Of calls that nothing answers, and what this slow host may add to each.
DEADLINE_S = 1
SLACK_S = 3
# The longest deadline there is: who waits for such a call's end is seen.
LONG_MS = 60000
OTHERS_S = 20


# ---- A vCPU that is stuck ----

def vcpu_stack(vm):
    """Where L1's kernel has the vCPU's thread."""
    return vm.l1.guest.check(f"cd /proc/{vm.process.pid}/task; t=$(grep -l '^CPU 0/KVM' */comm); "
                             "cat ${t%/comm}/stack")


def exits(vm):
    """KVM's count of the VM's exits."""
    return int(vm.l1.guest.check(f"cat /sys/kernel/debug/kvm/{vm.process.pid}-*/exits"))


def frozen(vm):
    """The vCPU waits in userfaultfd, and has not been out of that for a second."""
    def check():
        first = exits(vm)
        if "handle_userfault" not in vcpu_stack(vm):
            return False
        time.sleep(1)
        return exits(vm) == first and "handle_userfault" in vcpu_stack(vm)
    return wait_for(check, 30, "a vCPU that is stuck in a page fault", interval=0.1)


@contextlib.contextmanager
def stuck(vm):
    """A background snapshot: QEMU has all of the guest's memory write-protected by userfaultfd, saves a page that a
    vCPU writes to, and lets it go on. Here it cannot save any, since nobody reads the stream, until the block ends.
    """
    go = f"/tmp/go-{vm.slot}"
    vm.l1.guest.check(f"rm -f {go}")
    vm.qmp.cmd("migrate-set-capabilities", capabilities=[{"capability": "background-snapshot", "state": True}])
    vm.qmp.cmd("migrate", uri=f"exec:until [ -e {go} ]; do usleep 100000; done; cat >/dev/null")
    try:
        frozen(vm)
        yield
    finally:
        vm.l1.guest.check(f"touch {go}")


def saved(vm):
    """The end of the snapshot."""
    wait_for(lambda: vm.qmp.cmd("query-migrate")["status"] == "completed", 30, "the snapshot", interval=0.1)


def timed(l1, command):
    """(exit status, output, seconds) of a command in L1."""
    start = time.monotonic()
    code, text = l1.guest.run(command, timeout=90)
    return code, text, time.monotonic() - start


def on_time(seconds):
    """At its deadline: not before, and not much after."""
    assert DEADLINE_S * 0.9 <= seconds < DEADLINE_S + SLACK_S, seconds


def socket_client(name, timeout_ms):
    """The command of one null call by the device's socket."""
    return f"{COMMAND} -t {timeout_ms} ping -c 1 {name}"


def kernel_client(name, how):
    """The command of a client in L1's kernel."""
    return f"insmod /clients/rvmrpc_test_client.ko name={name} threads=1 {how}"


def deadlines(vm, name, kernel):
    """Each kind of client gets a status."""
    l1 = vm.l1
    code, text, took = timed(l1, socket_client(name, DEADLINE_S * 1000))
    assert code and "did not answer in time" in text, (code, text)
    on_time(took)
    start = time.monotonic()
    assert call(vm.qmp, "core", 0, timeout=DEADLINE_S * 1000)[0] == "timed-out"
    on_time(time.monotonic() - start)
    if kernel:
        dmesg(l1)
        code, text, took = timed(l1, kernel_client(name, f"calls=1 timeout_ms={DEADLINE_S * 1000} keep=1"))
        log = dmesg(l1)
        assert code == 0 and f"failed 1 error {-errno.ETIMEDOUT}" in log, (text, log)
        l1.guest.check("rmmod rvmrpc_test_client")
        on_time(took)


@contextlib.contextmanager
def caller(l1, command):
    """A client whose call has nearly forever to go; it is killed at the end, at once."""
    pid = int(l1.guest.check(f"{command} >/dev/null 2>&1 & echo $!"))
    time.sleep(1)
    assert l1.guest.run(f"kill -0 {pid}")[0] == 0, "it waits for nothing"
    yield pid
    l1.guest.check(f"kill -9 {pid}")
    wait_for(lambda: l1.guest.run(f"kill -0 {pid}")[0], SLACK_S, "the end of a client that was killed", interval=0.1)


def others(l1, slot):
    """A VM comes, and goes: the seconds of each, QEMU's own start included."""
    third = L2(l1, slot=slot, **named("third", 3, memory="128M"))
    start = time.monotonic()
    try:
        third.start()
        wait_for(lambda: "third" in vms(l1), OTHERS_S, "the third VM's attachment", interval=0.1)
        came = time.monotonic()
        third.qmp.cmd("quit")
        wait_for(lambda: "third" not in vms(l1), OTHERS_S, "its end", interval=0.1)
        went = time.monotonic()
    finally:
        third.stop()
    assert came - start < OTHERS_S, came - start
    return came - start, went - came


def works(vm, name, kernel):
    """Each kind of call, once the fault is over."""
    wait_for(lambda: call(vm.qmp, "echo", 0, b"back", timeout=2000) == ("ok", b"back"), 60, "the channel")
    code, text, _ = timed(vm.l1, socket_client(name, 10000))
    assert code == 0 and "1 answered" in text, (code, text)
    if kernel:
        vm.l1.guest.check(kernel_client(name, "calls=10") + " && rmmod rvmrpc_test_client")


@case("a vCPU that is stuck in a page fault, with the window in QEMU", timeout=300, opts=",kernel=off", slots=(2, 0))
@case("a vCPU that is stuck in a page fault, with the window in the kernel", timeout=300, opts="", slots=(0, 2))
def fault(opts, slots):
    """Its VM's calls end at their deadlines, nobody else waits, who does can be killed. Then all goes on."""
    l1 = with_command(host())
    kernel = not opts
    name = "stuck"
    shared_l2(l1, slot=1, **named("neighbour", 2, memory="128M"))
    options = named(f"{name},debug-threads=on", 1, memory="128M",
                    device_opts=f"slots=16,socket=/tmp/{name}.sock{opts}")
    with L2(l1, slot=slots[0], **options) as vm:
        assert vm.query()["proxy"] == ("kernel" if kernel else "vmm")
        works(vm, name, kernel)
        with stuck(vm):
            with Hammer(l1, "neighbour", 1, pause_us=20000) as hammer:
                deadlines(vm, name, kernel)
                way = kernel_client(name, f"calls=0 nulls=1 timeout_ms={LONG_MS}") if kernel else \
                    socket_client(name, LONG_MS)
                with caller(l1, socket_client(name, LONG_MS)), caller(l1, way):
                    came, went = others(l1, slots[1])
            comment(f"neighbour: {hammer.counts}, longest {hammer.result['longest_ms']} ms; "
                    f"a third VM came in {came:.1f} s and went in {went:.1f} s")
            assert hammer.result["longest_ms"] < 1000 * SLACK_S, hammer.result
            frozen(vm)
        works(vm, name, kernel)
        saved(vm)
        with stuck(vm):
            vm.process.send_signal(signal.SIGKILL)
            wait_for(lambda: vm.process.poll() is not None and name not in vms(l1), OTHERS_S, "the end of a QEMU "
                     "whose vCPU is stuck", interval=0.1)


# ---- Dirty log ----

TRACING = "/sys/kernel/tracing"
PROBE = "rvmrpc_dirty"
# The smallest that KVM has: 4 KiB of entries.
RING = 256
# What a guest dirties that serves calls, beside what it does when idle: its server's stack and data, and the like.
OWN_PAGES = 100
# How long the log is on, if the host is not slow.
PERIOD_S = 6


def trace_dirty(l1):
    """KVM's one function that marks a page in ring or bitmap leaves a count per guest frame."""
    l1.guest.check(f"grep -q {TRACING} /proc/mounts || mount -t tracefs tracefs {TRACING}; "
                   f"grep -q {PROBE} {TRACING}/kprobe_events || "
                   f"echo 'p:{PROBE} kvm:mark_page_dirty_in_slot gfn=%dx:u64' >{TRACING}/kprobe_events")


def dirtied_in(vm, mode, work, seconds):
    """The frames that were dirtied while the log was on for so long; the seconds that the work done meanwhile took."""
    guest, event = vm.l1.guest, f"{TRACING}/events/kprobes/{PROBE}"
    hist = "hist:keys=gfn:size=65536"
    vm.qmp.cmd("calc-dirty-rate", {"calc-time": seconds, "mode": mode})
    start = time.monotonic()
    guest.check(f"echo '{hist}' >{event}/trigger")
    work()
    took = time.monotonic() - start
    wait_for(lambda: vm.qmp.cmd("query-dirty-rate")["status"] == "measured", seconds + 30,
             "the dirty rate", interval=0.1)
    guest.check(f"cat {event}/hist >/share/dirty; echo '!{hist}' >{event}/trigger", timeout=60)
    text = (vm.l1.share / "dirty").read_text(encoding="ascii")
    assert re.search(r"Dropped: 0$", text, re.MULTILINE), text[-200:]
    return {int(frame) for frame in re.findall(r"gfn: +(\d+)", text)}, took


def dirtied(vm, mode, work):
    """The frames of a period in which all of the work was done; a slow host gets a longer one."""
    seconds = PERIOD_S
    for _ in range(3):
        frames, took = dirtied_in(vm, mode, work, seconds)
        if took < seconds:
            return frames
        seconds = min(60, int(2 * took))
    raise AssertionError(f"the work took {took:.0f} s, the log was on for less")


def answered(vm, number):
    """So many calls of the host's kernel, with data; each is answered."""
    name = name_of(vm)
    before = status(vm.l1, name)["completed"]
    log = lkm(vm.l1, "rvmrpc_test_client", f"name={name} threads=1 calls={number} size=256")
    assert f"right {number} wrong 0 failed 0" in log, log
    assert status(vm.l1, name)["completed"] == before + number


def write_pages(vm, number):
    """The guest fills memory of its own."""
    vm.guest.check(f"dd if=/dev/zero of=/tmp/pages bs=4096 count={number} 2>/dev/null; rm /tmp/pages")


def window_frames(vm):
    """BAR 2."""
    device = next(d for bus in vm.qmp.cmd("query-pci") for d in bus["devices"] if d["qdev_id"] == "rvmrpc0")
    region = next(r for r in device["regions"] if r["bar"] == 2)
    return range(region["address"] >> 12, region["address"] + region["size"] >> 12)


def logged(vm):
    """Whether QEMU ever had KVM log the slot at that address: {address: bool}."""
    found = {}
    for flags, address in re.findall(r"kvm_set_user_memory .* flags=0x(\w+) gpa=0x(\w+) size=0x(?!0 )", vm.log_text()):
        found[int(address, 16)] = found.get(int(address, 16), False) or bool(int(flags, 16) & 1)
    return found


@case("10,000 calls dirty no page, with a dirty ring of the smallest size", timeout=300, mode="dirty-ring",
      accel=f"kvm,dirty-ring-size={RING}")
@case("10,000 calls dirty no page, with the dirty bitmap", timeout=300, mode="dirty-bitmap", accel="kvm")
def dirty_log(mode, accel):
    """Else the frames would grow with the calls. The guest's own writes are seen, and fill the ring."""
    l1 = host()
    alone(l1)
    trace_dirty(l1)
    options = named("logged", 4, memory="128M", accel=accel, device_opts="id=rvmrpc0",
                    extra=["-trace", "kvm_set_user_memory", "-trace", "kvm_dirty_ring_full"])
    with L2(l1, slot=1, **options) as vm:
        settled(vm)
        window, pages = window_frames(vm), 8 * RING
        idle, few, many, written = (dirtied(vm, mode, work) for work in (
            lambda: time.sleep(PERIOD_S / 2), lambda: answered(vm, 1000), lambda: answered(vm, 10000),
            lambda: (write_pages(vm, pages), answered(vm, 100))))
        comment(f"pages dirtied: {len(idle)} when idle, {len(few)} by 1000 calls, {len(many)} by 10000, "
                f"{len(written)} when the guest writes {pages}")
        for frames in (idle, few, many, written):
            assert frames and not frames & set(window), (window, frames)
        assert len(few) <= len(idle) + OWN_PAGES and len(many) <= min(len(idle), len(few)) + OWN_PAGES
        assert len(written) >= pages, "the log does not see what the guest writes"
        slots = logged(vm)
        assert slots[0] and not slots[window.start << 12], slots
        assert ("kvm_dirty_ring_full" in vm.log_text()) == (mode == "dirty-ring"), "the ring was never full"


if __name__ == "__main__":
    main()
