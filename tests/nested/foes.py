# SPDX-License-Identifier: GPL-2.0-or-later
"""A hostile guest of our KVM, and the neighbour that it shall not harm."""
from ours import host, named, shared_l2

NAME = "hostile"
RING = 0x28
# User space may write to a device's memory, and the driver allows what is asked here.
OPEN = "iomem=relaxed"
BAD = named(NAME, 1, smp=2, memory="192M", append=OPEN, share="/", extra=["-device", "virtio-balloon-pci"])


def foe():
    """The hostile guest; a neighbour that calls go to is there, too."""
    l1 = host()
    shared_l2(l1, slot=1, **named("neighbour", 2, memory="128M"))
    return shared_l2(l1, **BAD)


def resource(vm, number):
    """The device's memory, as the guest's root may map it."""
    return vm.guest.check(f"echo /sys/bus/pci/drivers/rvmrpc/0000:*/resource{number}").strip()


def scribble(vm, seconds):
    """All over the window."""
    vm.guest.check(f"(scribble-window {resource(vm, 2)} {seconds} >/dev/null 2>&1 &)")


def rings(vm, seconds):
    """Rings, as fast as it goes."""
    vm.guest.check(f"(scribble-window {resource(vm, 0)} {seconds} {RING} >/dev/null 2>&1 &)")


def burns(vm, seconds):
    """Takes as much of the host's CPUs, and does no harm: the same writes to memory of its own."""
    vm.guest.check(f"(truncate -s 512K /tmp/window; scribble-window /tmp/window {seconds} >/dev/null 2>&1 &)")
