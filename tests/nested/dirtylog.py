#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls leave nothing in KVM's dirty log: the channel has no memory of the guest's."""
import re
import time

from ours import L2, host, lkm, name_of, named, settled, status

from harness import case, comment, main, wait_for

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


@case("10,000 calls dirty no page, with a dirty ring of the smallest size", timeout=300, mode="dirty-ring", slot=1,
      accel=f"kvm,dirty-ring-size={RING}")
@case("10,000 calls dirty no page, with the dirty bitmap", timeout=300, mode="dirty-bitmap", slot=0,
      accel="kvm")
def dirty_log(mode, slot, accel):
    """Else the frames would grow with the calls. The guest's own writes are seen, and fill the ring."""
    l1 = host()
    trace_dirty(l1)
    options = named(f"logged-{slot}", 4 + slot, memory="128M", accel=accel, device_opts="id=rvmrpc0",
                    extra=["-trace", "kvm_set_user_memory", "-trace", "kvm_dirty_ring_full"])
    with L2(l1, slot=slot, **options) as vm:
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
