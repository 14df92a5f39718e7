#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What guests let go comes to their host, by free page reporting: rvmrpc reclaim on one, rvmrpc balance on three.

What balance's host has available is a budget without what the three QEMUs have in memory: the machine that runs this has other work.
"""
import contextlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "vm"), str(TESTS / "bench")]

# pylint: disable=wrong-import-position
import plot  # noqa: E402
from harness import BUILD, VM, case, comment, main, wait_for  # noqa: E402
from tools import COMPLAINTS, PATIENT, RVMRPC, environment, ok  # noqa: E402

MIB = 1 << 20
TARGET = 400 * MIB
MISSING = 150 * MIB
CACHE = 300


def resident(vm):
    """Bytes of its QEMU that the host has in memory."""
    status = pathlib.Path(f"/proc/{vm.process.pid}/status").read_text(encoding="ascii")
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) * 1024


class Fleet:
    """A host of three guests; .samples: (seconds, available, {name: resident}, {name: cache})"""

    def __init__(self, vms, folder):
        self.vms, self.file = vms, pathlib.Path(folder, "meminfo")
        self.budget = TARGET - MISSING + sum(map(resident, vms.values()))
        self.samples, self.start = [], time.monotonic()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch)

    def look(self):
        """One sample, told to balance."""
        now = {name: resident(vm) for name, vm in self.vms.items()}
        available = max(self.budget - sum(now.values()), 0)
        new = self.file.with_suffix(".new")
        new.write_text(f"MemAvailable: {available // 1024} kB\n", encoding="ascii")
        new.rename(self.file)
        self.samples.append((time.monotonic() - self.start, available, now))

    def _watch(self):
        while not self.stop.wait(0.25):
            self.look()

    def __enter__(self):
        self.look()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def guest(folder, name, memory="512M"):
    """With a file system that holds as large files as one likes, all of zeros."""
    return VM(memory=memory, device_opts=f"socket={folder}/{name}.sock",
              append=f"{PATIENT} psi=1 rvmrpc.allow=default,reclaim.shrink",
              extra=["-name", name, "-device", "virtio-balloon-pci,free-page-reporting=on"])


def fill(vm, size):
    """So many MiB of cache."""
    vm.guest.check("modprobe -a crc32c_generic ext4 loop virtio_balloon && mkdir /data && "
                   "dd if=/dev/zero of=/tmp/image bs=1M count=24 2>/dev/null && mke2fs -F /tmp/image >/dev/null && "
                   "mount -o loop /tmp/image /data && "
                   f"dd if=/dev/zero of=/data/sparse bs=1 count=0 seek={size}M 2>/dev/null && cat /data/sparse > /dev/null",
                   timeout=90)


def balance(folder, *floors):
    """The daemon, and its rounds as they come."""
    rounds = []
    process = subprocess.Popen(  # pylint: disable=consider-using-with
        [RVMRPC, "balance", "--json", "-i", "3", "--target", str(TARGET), *floors],
        env=environment(folder, RVMRPC_MEMINFO=f"{folder}/meminfo"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def read():
        for line in process.stdout:
            one = json.loads(line)
            one["vms"] = {vm["name"]: vm for vm in one["vms"]}
            rounds.append(one)
    threading.Thread(target=read, daemon=True).start()
    return process, rounds


def draw(fleet):
    """The picture that docs/operators.md has, in build/logs."""
    lines = {"the host: available": [(t, available / MIB) for t, available, _ in fleet.samples],
             "the host: target": [(t, TARGET / MIB) for t, _, _ in (fleet.samples[0], fleet.samples[-1])]}
    for name in fleet.vms:
        lines[f"{name}: its QEMU in memory"] = [(t, now[name] / MIB) for t, _, now in fleet.samples]
    path = BUILD / "logs" / "balance.svg"
    path.parent.mkdir(exist_ok=True)
    plot.plot(path, "rvmrpc balance, three guests of 512 MiB", ("seconds", "MiB"), lines)
    comment(f"drawn: {path}")


def check(fleet, rounds):
    """From the idle one alone, and about as much as was missing."""
    asked = {name: sum(one["vms"].get(name, {}).get("ask", 0) for one in rounds) for name in fleet.vms}
    reasons = {name: sorted({one["vms"][name]["reason"] for one in rounds if name in one["vms"]}) for name in fleet.vms}
    (_, _, first), (_, available, last) = fleet.samples[0], fleet.samples[-1]
    fell = {name: (first[name] - last[name]) // MIB for name in fleet.vms}
    comment(f"asked for {({name: size // MIB for name, size in asked.items()})} MiB, {reasons}; QEMUs fell by {fell} MiB; the host "
            f"has {available // MIB} MiB, wanted {TARGET // MIB}")
    assert asked["idle"] and not asked["busy"] and not asked["floor"], asked
    assert "floor" in reasons["floor"] and set(reasons["busy"]) & {"hot", "pressure", "swaps", "rising", "waits"}, reasons
    assert fell["idle"] >= MISSING // MIB * 0.9 and abs(fell["floor"]) < 32 and fell["busy"] < 32, fell
    assert asked["idle"] <= 2 * MISSING + TARGET // 8, asked


@case("three real guests, one idle with cache, one busy, one at its floor: the host's memory comes from the first", timeout=280)
def fleet_of_three():
    """And what each says is why."""
    with tempfile.TemporaryDirectory(prefix="rvmrpc-fleet-") as folder, contextlib.ExitStack() as stack:
        vms = {name: stack.enter_context(guest(folder, name)) for name in ("idle", "busy", "floor")}
        for name, vm in vms.items():
            fill(vm, 600 if name == "busy" else CACHE)
        # Larger than its memory, so that each time most of it is read again.
        vms["busy"].guest.check("(while :; do cat /data/sparse > /dev/null; sleep 0.2; done) >/dev/null 2>&1 & echo $! > /tmp/busy")
        time.sleep(5)
        with Fleet(vms, folder) as fleet:
            process, rounds = balance(folder, "--floor", "floor=370M")
            try:
                wait_for(lambda: fleet.samples[-1][1] >= TARGET, 90, "the host's target", interval=0.5)
                # And it stays, with the guests as they are.
                time.sleep(8)
            finally:
                process.terminate()
                err = process.communicate(timeout=30)[1]
                draw(fleet)
                for one in rounds[:8]:
                    comment(json.dumps({name: vm["explanation"] for name, vm in one["vms"].items()}))
        assert process.returncode == 0 and not any(word in err for word in COMPLAINTS), err
        assert "free-page-reporting" not in err, err
        check(fleet, rounds)
        for vm in vms.values():
            assert vm.guest.check("echo alive").strip() == "alive"


@case("reclaim: 200 of 500 MiB of cold cache are freed within a tenth, and leave the guest's QEMU", timeout=200)
def reclaim():
    """Asked of a guest without cache it says so, and harms nothing."""
    with tempfile.TemporaryDirectory(prefix="rvmrpc-fleet-") as folder, guest(folder, "cold", "768M") as vm:
        def ask(size):
            return ok("reclaim", "cold", "--bytes", size, "--json", "-t", 30000, folder=folder).json()

        fill(vm, 500)
        time.sleep(5)
        # Linux from 6.7 on keeps up to an eighth of a zone for its CPUs to take from, once: what it freed first.
        for size, kept in ((200, 60), (100, 0)):
            before = resident(vm)
            got = ask(f"{size}M")
            assert got["end"] == "done" and size * 0.9 <= got["freed"] / MIB <= size * 1.1, got
            try:
                wait_for(lambda: before - resident(vm) >= (size * 0.9 - kept) * MIB,  # pylint: disable=cell-var-from-loop
                         20, "the host's part of it", interval=0.5)
            finally:
                time.sleep(3)
                comment(f"of {size} MiB {got['freed'] / MIB:.1f} were freed; its QEMU fell by {(before - resident(vm)) // MIB} MiB")
        vm.guest.check("umount /data && echo 3 > /proc/sys/vm/drop_caches")
        got = ask("200M")
        comment(f"without cache: {got}")
        assert got["end"] == "exhausted" and got["freed"] < 40 * MIB, got
        assert vm.guest.check("grep oom_kill /proc/vmstat").strip() == "oom_kill 0"


if __name__ == "__main__":
    main()
