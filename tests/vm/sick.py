#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What looks after a guest, against the guest's own truth: pressure, tasks, klog, fs, net, clock, control, freeze, reclaim."""
import ipaddress
import os
import re
import struct
import tempfile
import time

from harness import call, case, comment, main, set_parameter, wait_for
from harness.patient import (ALLOW, df, diskstats, dmesg, hog, log_lines, patient, processes, set_up_network,
                             stable_processes, stalls, steady, table, writer)
from harness.records import (ADDRESS, CLOCK, DISK, FILESYSTEM, INTERFACE, LOG, MORE, PSI, TASK, VMSTAT, only, page,
                             records)

FOLDER = tempfile.TemporaryDirectory(prefix="rvmrpc-sick-")
KERNEL = os.environ.get("RVMRPC_GUEST", "6.12")


def guest():
    """One for all cases."""
    return patient(FOLDER.name, KERNEL)


# ---- pressure ----

@case("pressure.psi is /proc/pressure", timeout=120)
def psi():
    """Totals between two readings of the guest's, averages of the same form."""
    vm = guest()
    vm.guest.check("for i in 1 2 3 4; do timeout 2 sh -c 'while :; do :; done' & done; sleep 2")
    for resource in ("cpu", "memory", "io"):
        before = stalls(vm, resource)
        found = {only(f, 1): f for kind, f in records(vm.qmp, "pressure", "psi") if kind == PSI}
        after = stalls(vm, resource)
        got = found[resource]
        assert before["some"] <= only(got, 5) // 1000 <= after["some"], (before, got, after)
        if "full" in before:
            assert before["full"] <= only(got, 9) // 1000 <= after["full"], (before, got, after)
        assert all(0 <= only(got, key) <= 10000 for key in (2, 3, 4)), got
    assert only(found["cpu"], 5) > 0, found


@case("pressure.vmstat is /proc/vmstat")
def vmstat():
    """Between two readings; a CPU's counters are summed up a moment before another's."""
    names = {2: ("pgfault",), 3: ("pgmajfault",), 4: ("pgpgin",), 5: ("pgpgout",), 6: ("pswpin",), 7: ("pswpout",),
             8: ("pgscan_kswapd",), 9: ("pgscan_direct",), 10: ("pgsteal_kswapd",), 11: ("pgsteal_direct",),
             12: ("workingset_refault_anon",), 13: ("workingset_refault_file",),
             14: ("allocstall_dma", "allocstall_dma32", "allocstall_normal", "allocstall_movable"), 15: ("oom_kill",)}
    vm = guest()
    before = table(vm, "/proc/vmstat")
    (kind, got), = records(vm.qmp, "pressure", "vmstat")
    after = table(vm, "/proc/vmstat")
    assert kind == VMSTAT and only(got, 1) == 4096 and only(got, 2) > 1000
    for key, parts in names.items():
        low, high = (sum(counts[part] for part in parts) for counts in (before, after))
        assert low <= only(got, key) <= high, (parts, low, got, high)
    # Each list is empty from its end on.
    assert page(vm.qmp, "pressure", "vmstat", cursor=1)[0] == []


@case("pressure.disks is /proc/diskstats")
def disks():
    """A disk that was read, and none that was not."""
    vm = guest()
    vm.guest.check("dd if=/dev/vda of=/dev/null bs=64k count=8 2>/dev/null")
    got = {only(f, 1): f for kind, f in records(vm.qmp, "pressure", "disks") if kind == DISK}
    (major, minor), counts = diskstats(vm, "vda")
    vda = got["vda"]
    assert only(vda, 2) == major << 32 | minor, vda
    assert [only(vda, key) for key in range(3, 20)] == counts, (vda, counts)
    assert only(vda, 5) >= 8 * 65536 and "loop7" not in got, got


# ---- tasks ----

@case("tasks.list is /proc: names, states, memory, time")
def tasks():
    """All, page by page, too; no command line in it."""
    vm = guest()
    vm.guest.check("sh -c 'exec sleep 3600' secret-argument & echo $! > /tmp/sleeper")
    pid = int(vm.guest.check("cat /tmp/sleeper"))
    wait_for(lambda: "(sleep) S" in vm.guest.check(f"cat /proc/{pid}/stat"), 10, "sleep")
    before = processes(vm)
    got = {only(f, 1): f for kind, f in records(vm.qmp, "tasks", "list") if kind == TASK}
    after = processes(vm)
    stable = stable_processes(before, after)
    assert len(stable) > 20 and set(stable) <= set(got), set(stable) - set(got)
    assert all(only(got[pid], 3) == name[:15] for pid, name in stable.items()), got
    sleeper = got[pid]
    status = dict(re.findall(r"^(\w+):\s+(.*)$", vm.guest.check(f"cat /proc/{pid}/status"), re.M))
    assert only(sleeper, 4) == "S" and only(sleeper, 8) == 1 and 7 not in sleeper and only(got[2], 7) == 1
    assert only(sleeper, 5) == int(status["PPid"]) and only(sleeper, 6) == 0
    # The kernel counts by CPU, in batches.
    assert abs(only(sleeper, 9) - int(status["VmRSS"].split()[0]) * 1024) <= 512 << 10, (sleeper, status)
    assert 9 not in got[2]
    assert b"secret-argument" not in call(vm.qmp, "tasks", "list")[1]
    again = records(vm.qmp, "tasks", "list", limit=7)
    # The kernel's workers end now and then.
    assert set(stable_processes(before, processes(vm))) <= {only(f, 1) for _, f in again}


@case("tasks.list sorted: who has most memory, who used most time")
def top():
    """Sorted and cut by the guest."""
    vm = guest()
    pid = hog(vm)
    try:
        by_memory, _, flags = page(vm.qmp, "tasks", "list", select=1, limit=3)
        assert len(by_memory) == 3 and flags == MORE, (by_memory, flags)
        assert only(by_memory[0][1], 1) == pid and only(by_memory[0][1], 9) > 50 << 20, by_memory
        memory = [f.get(9, [0])[0] for _, f in by_memory]
        assert memory == sorted(memory, reverse=True), memory
        for _ in range(20):
            by_cpu = page(vm.qmp, "tasks", "list", select=2, limit=5)[0]
            if pid in [only(f, 1) for _, f in by_cpu]:
                break
            time.sleep(0.5)
        times = [only(f, 10) for _, f in by_cpu]
        assert pid in [only(f, 1) for _, f in by_cpu] and times[0] > 10**8, by_cpu
        # Re-read after it was sorted, a running one is a little further.
        assert all(a > b * 0.8 for a, b in zip(times, times[1:])), times
    finally:
        vm.guest.check(f"kill {pid}")


# ---- klog ----

@case("klog.read is dmesg, goes on where it ended, and is secret by default")
def klog():
    """Levels, times, several lines; not in the default list."""
    vm = guest()
    vm.guest.check("echo '<4>rvmrpc: marked' > /dev/kmsg")
    own = [line for _, line in dmesg(vm)]
    got = [f for kind, f in records(vm.qmp, "klog", "read") if kind == LOG]
    lines = log_lines((only(f, 4), only(f, 5)) for f in got)
    assert lines[:len(own)] == own and len(own) > 100, [(a, b) for a, b in zip(lines, own) if a != b][:3]
    marked = [f for f in got if only(f, 5) == "rvmrpc: marked"]
    assert [only(f, 2) for f in marked] == [4] and [only(f, 3) for f in marked] == [1], marked
    _, following, flags = page(vm.qmp, "klog", "read", select=1, limit=2)
    assert flags == 0 and following >= only(got[-1], 1) + 1
    vm.guest.check("echo 'rvmrpc: later' > /dev/kmsg")
    # The kernel itself may say something meanwhile, as of a busy host: that its timers were late.
    later = page(vm.qmp, "klog", "read", cursor=following)
    assert [only(f, 5) for _, f in later[0]].count("rvmrpc: later") == 1, later
    assert later[1] == only(later[0][-1][1], 1) + 1 == following + len(later[0]) and len(later[0]) < 5, later
    last = page(vm.qmp, "klog", "read", select=1, limit=3)[0]
    assert len(last) == 3 and "rvmrpc: later" in [only(f, 5) for _, f in last], last
    end = page(vm.qmp, "klog", "read", cursor=2**63)
    assert end[0] == [] and later[1] <= end[1] < later[1] + 5, (end, later)
    assert call(vm.qmp, "klog", "read", struct.pack("<QII", 1, 1, 3))[0] == "garbage-args"
    set_parameter(vm, "allow", "default")
    assert call(vm.qmp, "klog", "read")[0] == "not-allowed"
    set_parameter(vm, "allow", ALLOW)


# ---- vmcoreinfo ----

@case("vmcoreinfo.read is the note that the kernel has where sysfs says, and secret by default")
def vmcoreinfo():
    """Address and size of /sys/kernel/vmcoreinfo; the text of this kernel."""
    vm = guest()
    (_, note), = page(vm.qmp, "vmcoreinfo", "read")[0]
    address, size = (int(word, 16) for word in vm.guest.check("cat /sys/kernel/vmcoreinfo").split())
    assert (only(note, 1), only(note, 2)) == (address, size), (note, address, size)
    lines = dict(line.split("=", 1) for line in only(note, 3).splitlines())
    assert lines["OSRELEASE"] == vm.guest.check("uname -r").strip() and lines["PAGESIZE"] == "4096", lines
    stext = vm.guest.check("grep ' _stext$' /proc/kallsyms").split()[0]
    assert lines["SYMBOL(_stext)"] == stext, (lines["SYMBOL(_stext)"], stext)
    # The same text lies at that address.
    text = vm.qmp.cmd("human-monitor-command", **{"command-line": f"xp /8xb {address + 24:#x}"})
    assert bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})\b", text.split(":", 1)[1])) == b"OSRELEAS", text
    set_parameter(vm, "allow", "default")
    assert call(vm.qmp, "vmcoreinfo", "read")[0] == "not-allowed"
    set_parameter(vm, "allow", ALLOW)


# ---- fs, net ----

@case("fs.list is df: sizes and inodes; a remote one is told and not asked")
def filesystems():
    """Bytes, read-only, blanks in names."""
    vm = guest()
    vm.guest.check("dd if=/dev/zero of=/data/file bs=1M count=3 2>/dev/null && sync")
    got = {only(f, 1): f for kind, f in records(vm.qmp, "fs", "list") if kind == FILESYSTEM}
    assert set(got) == {"/data", "/mnt", "/tmp/a b"}, got
    (size, used, free), (inodes, inodes_free) = df(vm, "/data")
    data = got["/data"]
    assert (only(data, 8), only(data, 10)) == (size, free), (data, size, free)
    assert only(data, 8) - only(data, 9) == used and used >= 3000 << 10, (data, used)
    assert (only(data, 11), only(data, 12)) == (inodes, inodes_free), data
    assert only(data, 2).startswith("/dev/loop") and only(data, 3) in ("ext2", "ext4") and only(data, 6) == 0
    assert only(got["/tmp/a b"], 5) == only(data, 5) and only(got["/tmp/a b"], 8) == only(data, 8)
    remote = got["/mnt"]
    assert only(remote, 7) == 1 and only(remote, 3) == "9p" and not {8, 9, 10} & set(remote), remote
    vm.guest.check("mkdir -p /mnt/below && mount --bind /data /mnt/below && "
                   "mount -o remount,ro,bind /mnt/below")
    try:
        below = next(f for _, f in records(vm.qmp, "fs", "list", limit=1) if only(f, 1) == "/mnt/below")
        assert only(below, 7) == 2 and only(below, 6) == 1 and 8 not in below, below
    finally:
        vm.guest.check("umount /mnt/below")


@case("net.list is ip: names, MACs, MTUs, states, addresses, counters")
def net():
    """IPv4 and IPv6, page by page."""
    vm = guest()
    set_up_network(vm)
    got, (theirs, names) = steady(vm, lambda: records(vm.qmp, "net", "list"))
    assert records(vm.qmp, "net", "list", limit=1) != [] and len(records(vm.qmp, "net", "list", limit=1)) == len(got)
    interfaces = {only(f, 2): f for kind, f in got if kind == INTERFACE}
    assert set(interfaces) == names, (interfaces, names)
    eth0 = interfaces["eth0"]
    base = "/sys/class/net/eth0"
    assert only(eth0, 3).hex(":") == vm.guest.check(f"cat {base}/address").strip()
    assert (only(eth0, 4), only(eth0, 5)) == (1400, 1) and only(eth0, 6) == vm.guest.check(f"cat {base}/operstate").strip()
    assert 7 not in eth0 and only(interfaces["lo"], 7) == 1 and 3 not in interfaces["lo"]
    lo_packets = int(vm.guest.check("cat /sys/class/net/lo/statistics/rx_packets"))
    assert only(interfaces["lo"], 9) == lo_packets >= 4, (interfaces["lo"], lo_packets)
    index = {only(f, 1): name for name, f in interfaces.items()}
    mine = {(index[only(f, 1)], f"{ipaddress.ip_address(only(f, 2))}/{only(f, 3)}", only(f, 4))
            for kind, f in got if kind == ADDRESS}
    assert mine == theirs and ("eth0", "192.0.2.7/25", "global") in mine and ("lo", "127.0.0.1/8", "host") in mine, (
        mine, theirs)


# ---- clock, control ----

@case("clock.read is the guest's clock; clock.set steps it, however late the call comes")
def clock():
    """To a time that the host says was at a moment of the guest's."""
    vm = guest()

    def read():
        (kind, fields), = records(vm.qmp, "clock", "read")
        assert kind == CLOCK
        return [only(fields, key) for key in (1, 2, 3)]
    low = float(vm.guest.check("cat /proc/uptime").split()[0])
    real, mono, boot = read()
    high = float(vm.guest.check("cat /proc/uptime").split()[0])
    assert low - 0.02 <= boot / 1e9 <= high + 0.02 and mono <= boot
    assert real // 10**9 <= int(vm.guest.check("date +%s")) <= read()[0] / 1e9
    wanted = real + 3600 * 10**9
    time.sleep(1)
    status, data = call(vm.qmp, "clock", "set", struct.pack("<QQ", wanted, boot))
    assert status == "ok", status
    old, new = struct.unpack("<QQ", data)
    assert abs(new - old - 3600 * 10**9) < 10**8, (old, new)
    real2, _, boot2 = read()
    assert abs((real2 - wanted) - (boot2 - boot)) < 10**8, (real2 - wanted, boot2 - boot)
    assert real2 // 10**9 <= int(vm.guest.check("date +%s")) <= read()[0] / 1e9
    for bad in ((wanted, boot2 + 10**12), (0, 0), (2**64 - 1, 0)):
        assert call(vm.qmp, "clock", "set", struct.pack("<QQ", *bad))[0] == "garbage-args", bad


@case("control.sysrq and control.sync")
def sysrq():
    """By what the kernel says in its log."""
    vm = guest()
    vm.guest.check("echo 1 > /proc/sys/kernel/sysrq")
    status, data = call(vm.qmp, "control", "sysrq", struct.pack("<II", ord("m"), 0))
    assert status == "ok" and struct.unpack("<II", data) == (1, 0), (status, data)
    assert "Mem-Info:" in vm.guest.check("dmesg | grep -A3 'the host asks for sysrq'")
    vm.guest.check("echo 0 > /proc/sys/kernel/sysrq")
    assert call(vm.qmp, "control", "sysrq", struct.pack("<II", ord("m"), 0))[0] == "not-allowed"
    vm.guest.check("dd if=/dev/zero of=/data/dirty bs=64k count=16 2>/dev/null")
    assert call(vm.qmp, "control", "sync", timeout=10000) == ("ok", b"")


# ---- freeze ----

def freeze_state(vm, procedure, data=None):
    """(state, count, skipped, lost, left in ms)."""
    status, answer = call(vm.qmp, "freeze", procedure, data, 10000)
    assert status == "ok", (procedure, status)
    return struct.unpack("<6I", answer)[:5]


def freeze_for(timeout):
    """Its argument."""
    return struct.pack("<II", timeout, 0)


@case("freeze: writes stop, and go on after thaw; who waits is in tasks.blocked, with its stack")
def freeze():
    """One that is mounted twice is frozen once; the remote one is skipped."""
    vm = guest()
    assert freeze_state(vm, "status")[:2] == (0, 0)
    state, count, skipped, _, left = freeze_state(vm, "freeze", freeze_for(60000))
    assert (state, count, skipped) == (2, 1, 1) and 50000 < left <= 60000, (state, count, skipped, left)
    try:
        assert call(vm.qmp, "freeze", "freeze", freeze_for(1000))[0] == "busy"
        pid = writer(vm, "/data/late")
        assert vm.guest.run("test -e /tmp/late")[0] == 1, "it was written"
        blocked = {only(f, 1): f for _, f in records(vm.qmp, "tasks", "blocked")}
        assert only(blocked[pid], 4) == "D" and only(blocked[pid], 2) == pid, blocked
        own = vm.guest.check(f"cat /proc/{pid}/stack")
        functions = [re.match(r"(\w+)", name).group(1) for name in blocked[pid][12]]
        theirs = re.findall(r"\] (\w+)\+", own)
        comment(" ".join(functions))
        assert [name for name in functions if name in theirs] == theirs and len(theirs) > 3, (functions, own)
        assert not re.search(r"0x|ffff", " ".join(blocked[pid][12])), blocked
    finally:
        thawed = freeze_state(vm, "thaw")
    assert thawed[:4] == (0, 1, 1, 0), thawed
    wait_for(lambda: vm.guest.run("test -e /tmp/late")[0] == 0, 20, "the write")
    assert freeze_state(vm, "thaw")[:2] == (0, 0)


@case("freeze: the guest thaws by itself when the time is over, and says so")
def freeze_expires():
    """Nobody calls."""
    vm = guest()
    assert freeze_state(vm, "freeze", freeze_for(1500))[:2] == (2, 1)
    assert vm.guest.run("timeout 10 sh -c 'echo x > /data/expired'", timeout=20)[0] == 0
    wait_for(lambda: freeze_state(vm, "status")[:2] == (3, 0), 20, "expiry")
    assert freeze_state(vm, "thaw")[:2] == (3, 0)
    # One that somebody else thaws is told.
    assert freeze_state(vm, "freeze", freeze_for(60000))[0] == 2
    vm.guest.check("fsfreeze --unfreeze /data")
    assert freeze_state(vm, "thaw")[:4] == (0, 0, 1, 1)
    for bad in (0, 600001):
        assert call(vm.qmp, "freeze", "freeze", freeze_for(bad))[0] == "garbage-args"


# ---- reclaim ----

@case("reclaim.shrink takes what was asked from the page cache, and says when there is no more")
def shrink():
    """A file in memory that nobody maps."""
    vm = guest()
    size = 48 << 20
    vm.guest.check("dd if=/dev/zero of=/data/sparse bs=1 count=0 seek=120M 2>/dev/null; cat /data/sparse > /dev/null", timeout=60)
    cached = vm.qmp.cmd("guest-meminfo")["cached"]
    assert cached > 100 << 20, cached
    status, data = call(vm.qmp, "reclaim", "shrink", struct.pack("<Q", size), 30000)
    assert status == "ok", status
    freed, reclaimed, end, _ = struct.unpack("<QQII", data)
    after = vm.qmp.cmd("guest-meminfo")["cached"]
    comment(f"freed {freed >> 20} MiB, reclaimed {reclaimed >> 20}, cached {cached >> 20} to {after >> 20}")
    assert end == 0 and size <= reclaimed < size * 1.1 and size * 0.9 < freed < size * 1.1, (freed, reclaimed, end)
    assert reclaimed * 0.9 < cached - after < reclaimed * 1.1, (cached, after, reclaimed)
    status, data = call(vm.qmp, "reclaim", "shrink", struct.pack("<Q", 1 << 40), 2000)
    freed, reclaimed, end, _ = struct.unpack("<QQII", data)
    assert status == "ok" and end in (1, 2) and reclaimed < 512 << 20, (status, freed, reclaimed, end)
    assert vm.guest.check("cat /data/sparse | wc -c").strip() == str(120 << 20)


@case("reclaim.compact")
def compact():
    """No less in large blocks than before, but for what was allocated meanwhile."""
    vm = guest()
    status, data = call(vm.qmp, "reclaim", "compact", timeout=20000)
    before, after = struct.unpack("<QQ", data)
    comment(f"{before >> 20} to {after >> 20} MiB")
    assert status == "ok" and after > 0 and after % (2 << 20) == 0 and after > before - (16 << 20), (before, after)


@case("control.poweroff shuts the guest down", timeout=60)
def poweroff():
    """The last case: it ends the VM."""
    vm = guest()
    vm.guest.check("mkdir -p /sbin; test -x /sbin/poweroff")
    assert call(vm.qmp, "control", "poweroff", struct.pack("<II", 1, 0)) == ("ok", b"")
    assert vm.qmp.wait_event("SHUTDOWN", timeout=30)["data"]["guest"]


if __name__ == "__main__":
    main()
