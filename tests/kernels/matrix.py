#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest driver and rvmrpc_host.ko on Debian's kernels, from the oldest to the newest, cloud and rt: built without a
warning, booted, and called. docs/guest-linux.md has the table.
"""
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "vm"), str(HERE.parent / "stock")]

# pylint: disable=wrong-import-position
from harness import BUILD, TOP, VM, Skip, call, case, comment, insmod, main, wait_for  # noqa: E402
from harness.patient import oom_kill  # noqa: E402
from stand import Served  # noqa: E402

# The first number of the version, which a suite must have, or the table is wrong.
SUITES = {"bullseye": "5.10", "bookworm": "6.1", "trixie": "6.12", "sid": "7.", "trixie-backports": "7."}
FLAVOURS = ("", "-cloud", "-rt")
FEW = {"memory": "320M", "append": "panic=-1"}


class Guest(VM):
    """The kernels with more to check for themselves need their time."""

    boot_timeout = 240.0


class StockGuest(Served):
    """Likewise."""

    boot_timeout = 240.0


def release(series):
    """As uname -r says it."""
    return (BUILD / "kernels" / series / "release").read_text(encoding="ascii").strip()


def need_built(series):
    """Of the case before."""
    if not (BUILD / "initramfs" / f"{series}.cpio").exists():
        raise Skip("not built")


def builds(series, version):
    """Both modules, and the guest that has them."""
    result = subprocess.run([TOP / "scripts/build-suite", series], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:]
    assert release(series).startswith(version), release(series)
    comment(release(series))


def total(vm):
    """Of the guest's own /proc/meminfo, in bytes."""
    return int(re.search(r"MemTotal: +(\d+)", vm.guest.check("cat /proc/meminfo"))[1]) * 1024


def drop_caches(vm, drop):
    """The kernel logs each."""
    before = vm.guest.check("dmesg | grep -c drop_caches || true")
    drop()
    assert int(vm.guest.check("dmesg | grep -c drop_caches || true")) > int(before)


def tells(vm):
    """An OOM kill, which needs the kernel's own trace point, and the example's event."""
    insmod(vm, "rvmrpc_event_example")
    vm.guest.check("ip link set lo up")
    pid, name = oom_kill(vm)
    data = vm.qmp.wait_event("GUEST_KERNEL_EVENT", 60, lambda event: event["type"] == "oom-kill")["data"]
    assert (data["pid"], data["process"]) == (pid, name), data
    vm.qmp.wait_event("GUEST_KERNEL_EVENT", 60, lambda event: event["type"] == "other")
    vm.guest.check("rmmod rvmrpc_event_example")


def as_guest(vm):
    """Load, meminfo, 100 calls, caches, an event, unload, and load again."""
    info = vm.query()
    assert info["state"] == "connected" and info["release"] == vm.guest.check("uname -r").strip(), info
    assert vm.qmp.cmd("guest-meminfo")["total"] == total(vm)
    for number in range(100):
        data = bytes([number]) * (number * 40)
        assert call(vm.qmp, "echo", "echo", data, timeout=5000) == ("ok", data), number
    drop_caches(vm, lambda: vm.qmp.cmd("guest-drop-caches", {"mode": "all", "timeout": 30000}, timeout=60))
    tells(vm)
    vm.guest.check("rmmod rvmrpc")
    vm.wait_state("disconnected", 20)
    insmod(vm, "rvmrpc")
    vm.wait_state("connected", 20)


def as_host(vm):
    """rvmrpc_host.ko: its own client calls through the window of a program that is VMM and guest in one."""
    vm.guest.check("insmod /host/rvmrpc_host.ko && (window_guest </dev/null >/tmp/window 2>&1 & echo $! >/tmp/pid)")
    wait_for(lambda: "connected" in vm.guest.run("cat /tmp/window")[1], 20, "the window's guest", interval=0.1)
    for words in ("", "message=again"):
        vm.guest.check(f"insmod /host/rvmrpc_echo_client.ko {words} && rmmod rvmrpc_echo_client")
    text = vm.guest.check("dmesg | grep 'echo back'")
    assert "echo back: Hello from Host" in text and "echo back: again" in text, text
    vm.guest.check("kill $(cat /tmp/pid); for i in $(seq 9); do rmmod rvmrpc_host && exit 0; sleep 1; done; exit 1")


def boots(series):
    """Our QEMU; the driver loads by its PCI ID."""
    need_built(series)
    with Guest(series, smp=2, **FEW) as vm:
        as_guest(vm)
        as_host(vm)
        assert not vm.complaints_now(), vm.complaints_now()


def stock(series):
    """Debian 12's QEMU with rvmrpcd."""
    need_built(series)
    with StockGuest("web", kernel=series, smp=2, **FEW) as vm:
        daemon = vm.daemon
        assert daemon.json("meminfo", "web")["total"] == total(vm)
        assert "100 calls" in daemon.ok("ping", "-c", "100", "-i", "0.01", "web", timeout=60).out
        drop_caches(vm, lambda: daemon.ok("drop-caches", "web", "all", timeout=60))
        vm.guest.check("rmmod rvmrpc")
        vm.wait_state("disconnected", 20)


for _suite, _version in SUITES.items():
    for _flavour in FLAVOURS:
        _series = _suite + _flavour
        case(f"{_series}: guest driver and rvmrpc_host.ko build without a warning", timeout=900, series=_series,
             version=_version)(builds)
        case(f"{_series}: a guest of our QEMU, and a host", timeout=400, series=_series)(boots)
        case(f"{_series}: a guest of Debian's QEMU, with rvmrpcd", timeout=300, series=_series)(stock)


if __name__ == "__main__":
    main()
