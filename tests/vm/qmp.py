#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What looks after a guest, by its QMP commands, against the guest's own truth.

Answers are small, so that lists take several. What each member says, and what becomes of answers that are wrong, is in
QEMU's rvmrpc-test, where the test is the guest.
"""
import codecs
import os
import re
import tempfile
import time

from harness import QMP, QMPError, case, comment, main, set_parameter, wait_connected, wait_for
from harness.patient import (ALLOW, CHANGES, TELLS, df, diskstats, dmesg, guests_clock, hog, log_lines, patient, processes,
                             set_up_network, stable_processes, stalls, steady, table, writer)

FOLDER = tempfile.TemporaryDirectory(prefix="rvmrpc-qmp-")
KERNEL = os.environ.get("RVMRPC_GUEST", "6.12")


def guest():
    """One for all cases."""
    return patient(FOLDER.name, KERNEL, device_opts="response-bytes=2048")


def whole(vm, name, **arguments):
    """The answer of a list that must be complete, without what says so."""
    answer = vm.qmp.cmd(name, {"timeout": 10000, **arguments})
    assert not answer.pop("partial") and not answer.pop("more") and "cut" not in answer, answer
    return answer


def error_of(vm, name, **arguments):
    """The error that a command must end with."""
    try:
        answer = vm.qmp.cmd(name, arguments)
    except QMPError as error:
        return error
    raise AssertionError(f"{name} answered {answer}")


def by_name(objects, key):
    """{name: object}"""
    return {thing[key]: thing for thing in objects}


# ---- What it tells ----

@case("guest-filesystems is df", timeout=120)
def filesystems():
    """Sizes, inodes, device numbers, what is read-only; a remote one is told and not asked."""
    vm = guest()
    vm.guest.check("mkdir -p /mnt/below && mount --bind /data /mnt/below && mount -o remount,ro,bind /mnt/below")
    try:
        got = by_name(whole(vm, "guest-filesystems")["filesystems"], "mountpoint")
        mounts = {line.split()[4]: line.split()[2] for line in vm.guest.check("cat /proc/1/mountinfo").splitlines()}
    finally:
        vm.guest.check("umount /mnt/below")
    assert set(got) == {"/data", "/mnt", "/tmp/a b", "/mnt/below"}, got
    data = got["/data"]
    (size, used, available), (inodes, inodes_free) = df(vm, "/data")
    assert (data["size"], data["size"] - data["free"], data["available"]) == (size, used, available), (data, size)
    assert (data["inodes"], data["inodes-free"]) == (inodes, inodes_free), data
    assert data["source"].startswith("/dev/loop") and data["type"] in ("ext2", "ext4") and not data["read-only"], data
    assert f"{data['device-major']}:{data['device-minor']}" == mounts["/data"], (data, mounts)
    assert got["/mnt"]["skipped"] == "remote" and got["/mnt"]["type"] == "9p" and "size" not in got["/mnt"], got
    assert got["/mnt/below"]["skipped"] == "below-remote" and got["/mnt/below"]["read-only"], got


@case("guest-interfaces is ip")
def interfaces():
    """Addresses of both families stand with their interface, also when they come in another answer."""
    vm = guest()
    set_up_network(vm)
    vm.guest.check("for i in $(seq 10 60); do ip addr add 198.51.100.$i/24 dev eth0; done")
    answer, (theirs, names) = steady(vm, lambda: whole(vm, "guest-interfaces"))
    got = by_name(answer["interfaces"], "name")
    mine = {(name, f"{a['address']}/{a['prefix']}", a["scope"]) for name, i in got.items() for a in i["addresses"]}
    assert set(got) == names and mine == theirs and len(mine) > 50, (mine, theirs)
    eth0, lo = got["eth0"], got["lo"]
    base = "/sys/class/net/eth0"
    assert eth0["mac"] == vm.guest.check(f"cat {base}/address").strip() and "mac" not in lo
    assert eth0["state"] == vm.guest.check(f"cat {base}/operstate").strip()
    assert (eth0["mtu"], eth0["up"], eth0["loopback"], lo["loopback"]) == (1400, True, False, True), got
    assert eth0["index"] == int(vm.guest.check(f"cat {base}/ifindex"))
    assert lo["rx-packets"] == int(vm.guest.check("cat /sys/class/net/lo/statistics/rx_packets")) >= 4, lo


@case("guest-pressure is /proc/pressure, /proc/vmstat and /proc/diskstats")
def pressure():
    """Between two readings of the guest's."""
    vm = guest()
    vm.guest.check("dd if=/dev/vda of=/dev/null bs=64k count=8 2>/dev/null; "
                   "for i in 1 2 3 4; do timeout 3 sh -c 'while :; do :; done' & done; sleep 3")
    before, counts = stalls(vm, "cpu"), table(vm, "/proc/vmstat")
    got = whole(vm, "guest-pressure")
    after, later = stalls(vm, "cpu"), table(vm, "/proc/vmstat")
    some = got["cpu"]["some"]
    assert before["some"] <= some["total-ns"] // 1000 <= after["some"] and some["total-ns"] > 0, (before, some, after)
    assert 0 < some["avg10"] <= 100 and {"memory", "io"} < set(got) and "full" in got["memory"], got
    vmstat = got["vmstat"]
    for member, name in (("faults", "pgfault"), ("major-faults", "pgmajfault"), ("oom-kills", "oom_kill")):
        assert counts[name] <= vmstat[member] <= later[name], (member, counts[name], vmstat, later[name])
    assert counts["pgpgin"] * 1024 <= vmstat["in-bytes"] <= later["pgpgin"] * 1024 and vmstat["page-size"] == 4096, vmstat
    vda = by_name(got["disks"], "name")["vda"]
    numbers, own = diskstats(vm, "vda")
    assert (vda["device-major"], vda["device-minor"]) == numbers, (vda, numbers)
    assert [vda[name] for name in ("reads", "reads-merged", "read-bytes", "read-ns", "writes")] == own[:5], (vda, own)
    set_parameter(vm, "allow", "default,-pressure.disks")
    answer = vm.qmp.cmd("guest-pressure")
    assert answer["cut"] == "not-allowed" and answer["disks"] == [] and "cpu" in answer and "vmstat" in answer, answer
    set_parameter(vm, "allow", "default,-pressure.*")
    assert error_of(vm, "guest-pressure").desc.startswith("not-allowed"), "it is"
    set_parameter(vm, "allow", ALLOW)


@case("guest-tasks is /proc")
def tasks():
    """All of them, in as many answers as it takes; those first that have most memory."""
    vm = guest()
    pid = hog(vm)
    try:
        before = processes(vm)
        got = by_name(whole(vm, "guest-tasks")["tasks"], "pid")
        stable = stable_processes(before, processes(vm))
        assert len(stable) > 20 and all(got[number]["name"] == name[:15] for number, name in stable.items()), got
        status = dict(re.findall(r"^(\w+):\s+(.*)$", vm.guest.check(f"cat /proc/{pid}/status"), re.M))
        task = got[pid]
        assert (task["parent"], task["uid"], task["threads"], task["kernel"]) == (int(status["PPid"]), 0, 1, False), task
        assert abs(task["rss"] - int(status["VmRSS"].split()[0]) * 1024) <= 512 << 10, (task, status)
        assert got[2]["kernel"] and "rss" not in got[2] and "stack" not in got[2] and "thread" not in got[2], got[2]
        answer = vm.qmp.cmd("guest-tasks", {"select": "memory", "max": 2})
        memory = [task["rss"] for task in answer["tasks"]]
        assert answer["more"] and answer["tasks"][0]["pid"] == pid and memory == sorted(memory, reverse=True), answer
        wait_for(lambda: pid in by_name(vm.qmp.cmd("guest-tasks", {"select": "cpu", "max": 5})["tasks"], "pid"), 10, "dd")
        assert len(vm.qmp.cmd("guest-tasks", {"max": 30})["tasks"]) == 30
    finally:
        vm.guest.check(f"kill {pid}")


@case("guest-kernel-log is dmesg, and goes on where it ended")
def kernel_log():
    """The last ones, those since a number; none by default."""
    vm = guest()
    vm.guest.check("echo '<3>rvmrpc: marked' > /dev/kmsg; echo '<4>a\\b\"c' > /dev/kmsg")
    own = dmesg(vm)
    answer = whole(vm, "guest-kernel-log", since=0)
    got = answer["messages"]
    lines = log_lines((m["time-ns"], codecs.decode(m["text"], "unicode_escape")) for m in got)
    assert lines[:len(own)] == [line for _, line in own] and len(own) > 100, [x for x in zip(lines, own) if x[0] != x[1][1]][:3]
    levels = "emerg alert crit err warning notice info debug".split()
    marked, = [m for m in got if m["text"] == "rvmrpc: marked"]
    assert (marked["level"], marked["facility"]) == ("err", 1), marked
    first = [m for m in got if "\\n" not in m["text"]][0]
    assert levels.index(first["level"]) + 8 * first["facility"] == own[lines.index(log_lines(
        [(first["time-ns"], first["text"])])[0])][0], first
    vm.guest.check("echo 'rvmrpc: later' > /dev/kmsg")
    later = whole(vm, "guest-kernel-log", since=answer["next"])
    # The kernel itself may say something meanwhile, as of a busy host: that its timers were late.
    assert [m["text"] for m in later["messages"]].count("rvmrpc: later") == 1 and len(later["messages"]) < 5, later
    assert later["next"] == later["messages"][-1]["seq"] + 1 == answer["next"] + len(later["messages"]), later
    last = whole(vm, "guest-kernel-log", max=100)["messages"]
    assert len(last) == 100 and "rvmrpc: later" in [m["text"] for m in last[-5:]], last[-5:]
    assert len(whole(vm, "guest-kernel-log")["messages"]) == 64
    some = vm.qmp.cmd("guest-kernel-log", {"since": got[3]["seq"], "max": 60})
    assert some["more"] and [m["seq"] for m in some["messages"]] == [m["seq"] for m in got[3:63]] and (
        some["next"] == got[63]["seq"]), some
    assert later["next"] <= whole(vm, "guest-kernel-log", since=2**63)["next"] < later["next"] + 5


@case("guest-clock is the guest's clock beside ours; guest-set-clock mends it")
def clock():
    """Within the error that it tells."""
    vm = guest()
    vm.guest.check("date -s @$(($(date +%s) - 5000)) >/dev/null")
    for _ in range(5):
        low = float(vm.guest.check("cat /proc/uptime").split()[0])
        got = vm.qmp.cmd("guest-clock")
        high = float(vm.guest.check("cat /proc/uptime").split()[0])
        # As far apart as question and answer were, on a busy machine.
        if got["error-ns"] < 10**9:
            break
    assert low - 0.02 <= got["boottime-ns"] / 1e9 <= high + 0.02 and got["monotonic-ns"] <= got["boottime-ns"], got
    assert got["skew-ns"] == got["realtime-ns"] - got["host-ns"] and abs(got["host-ns"] / 1e9 - time.time()) < 5, got
    assert -5100 < got["skew-ns"] / 1e9 < -4900 and 0 < got["error-ns"] < 10**9, got
    step = vm.qmp.cmd("guest-set-clock")
    now = vm.qmp.cmd("guest-clock")
    comment(f"skew {now['skew-ns']} ns, errors {step['error-ns']} and {now['error-ns']} ns")
    assert 4900 < (step["after-ns"] - step["before-ns"]) / 1e9 < 5100, step
    # The guest's clock and ours run alike, more or less.
    assert abs(now["skew-ns"]) <= step["error-ns"] + now["error-ns"] + 10**7, (step, now)
    now, first, last = guests_clock(vm)
    assert first - 3 < now < last + 3, (first, now, last)


# ---- What it does ----

@case("guest-freeze: writes stop until guest-thaw; guest-tasks has who waits, with its stack")
def freeze():
    """What reads goes on being answered."""
    vm = guest()
    assert vm.qmp.cmd("guest-freeze-status")["state"] == "thawed"
    frozen = vm.qmp.cmd("guest-freeze", {"thaw-ms": 50000})
    try:
        assert (frozen["state"], frozen["count"], frozen["skipped"], frozen["lost"]) == ("frozen", 1, 1, 0), frozen
        assert 40000 < frozen["left-ms"] <= 50000, frozen
        assert error_of(vm, "guest-freeze").desc.startswith("busy")
        pid = writer(vm, "/data/late")
        blocked = by_name(whole(vm, "guest-tasks", select="blocked")["tasks"], "pid")[pid]
        assert (blocked["state"], blocked["thread"]) == ("D", pid), blocked
        theirs = re.findall(r"\] (\w+)\+", vm.guest.check(f"cat /proc/{pid}/stack"))
        mine = [name.split("+")[0].split(".")[0] for name in blocked["stack"]]
        assert [name for name in mine if name in theirs] == theirs and len(theirs) > 3, (mine, theirs)
        assert vm.qmp.cmd("guest-freeze-status")["state"] == "frozen" and vm.guest.run("test -e /tmp/late")[0] == 1
    finally:
        thawed = vm.qmp.cmd("guest-thaw")
    assert (thawed["state"], thawed["count"], thawed["lost"], thawed["left-ms"]) == ("thawed", 1, 0, 0), thawed
    wait_for(lambda: vm.guest.run("test -e /tmp/late")[0] == 0, 20, "the write")


@case("guest-freeze: the guest thaws by itself, also when the monitor has closed that froze it, or that was about to")
def freeze_expires():
    """Nobody calls guest-thaw."""
    vm = guest()

    def state():
        return vm.qmp.cmd("guest-freeze-status")["state"]
    with QMP(vm.dir / "qmp2.sock") as qmp:
        assert qmp.cmd("guest-freeze", {"thaw-ms": 5000})["state"] == "frozen"
    assert state() == "frozen"
    assert vm.guest.run("timeout 15 sh -c 'echo x > /data/expired'", timeout=30)[0] == 0
    wait_for(lambda: state() == "expired", 10, "the end")
    assert vm.qmp.cmd("guest-thaw")["count"] == 0
    with QMP(vm.dir / "qmp2.sock") as qmp:
        qmp.send("guest-freeze", {"thaw-ms": 1000})
    # It may run all the same, or not.
    time.sleep(0.5)
    wait_for(lambda: state() in ("expired", "thawed"), 10, "the end")
    vm.guest.check("echo x > /data/after", timeout=20)


@case("guest-reclaim, guest-compact and guest-sync")
def memory():
    """By what the guest has cached and dirty."""
    vm = guest()
    vm.guest.check("dd if=/dev/zero of=/data/sparse bs=1 count=0 seek=80M 2>/dev/null; cat /data/sparse > /dev/null", timeout=60)
    before = vm.qmp.cmd("guest-meminfo")["cached"]
    got = vm.qmp.cmd("guest-reclaim", {"bytes": 24 << 20})
    after = vm.qmp.cmd("guest-meminfo")["cached"]
    assert got["end"] == "done" and 24 << 20 <= got["reclaimed"] < 30 << 20, got
    assert got["reclaimed"] * 0.8 < before - after < got["reclaimed"] * 1.2 and got["freed"] > 0, (before, after, got)
    got = vm.qmp.cmd("guest-compact")
    assert got["after"] > 0 and got["after"] % (2 << 20) == 0 and got["after"] > got["before"] - (16 << 20), got
    vm.guest.check("dd if=/dev/zero of=/data/dirty bs=64k count=16 2>/dev/null")
    assert vm.qmp.cmd("guest-sync") == {}
    assert vm.qmp.cmd("guest-meminfo")["dirty"] < 512 << 10, vm.qmp.cmd("guest-meminfo")


@case("guest-sysrq does what a key does")
def sysrq():
    """By what the kernel says in its log."""
    vm = guest()
    vm.guest.check("echo 1 > /proc/sys/kernel/sysrq")
    assert vm.qmp.cmd("guest-sysrq", {"key": "m"}) == {"enabled": 1}
    texts = [m["text"] for m in whole(vm, "guest-kernel-log", max=200)["messages"]]
    assert any("the host asks for sysrq 'm'" in text for text in texts) and "Mem-Info:" in texts, texts


# ---- What it refuses ----

@case("what changes a guest, and its log, is not allowed by default; the rest is")
def defaults():
    """By the status' name."""
    vm = guest()
    set_parameter(vm, "allow", "default")
    try:
        for name, arguments in CHANGES.items():
            error = error_of(vm, name, **arguments)
            assert error.kind == "GenericError" and error.desc.startswith("not-allowed: "), (name, error)
        for name in TELLS:
            vm.qmp.cmd(name)
    finally:
        set_parameter(vm, "allow", ALLOW)


@case("bad arguments are refused before the guest is asked")
def refused():
    """All with their reasons."""
    vm = guest()
    calls = vm.query()["stats"]["calls"]
    for name, arguments, text in (
            ("guest-tasks", {"max": 0}, "max must be between 1 and 8192"),
            ("guest-kernel-log", {"max": 8193}, "max must be between 1 and 8192"),
            ("guest-tasks", {"select": "best"}, "does not accept value 'best'"),
            ("guest-freeze", {"thaw-ms": 0}, "thaw-ms must be between 1 and 600000"),
            ("guest-freeze", {"thaw-ms": 600001}, "thaw-ms must be between 1 and 600000"),
            ("guest-reclaim", {"bytes": 0}, "bytes must not be 0"),
            ("guest-reclaim", {}, "'bytes' is missing"),
            ("guest-sysrq", {"key": ""}, "one printable character"), ("guest-sysrq", {"key": "ab"}, "one printable character"),
            ("guest-sysrq", {"key": "\u00e9"}, "one printable character")):
        assert text in error_of(vm, name, **arguments).desc, (name, arguments)
    assert vm.query()["stats"]["calls"] == calls


# ---- Its end ----

@case("guest-reboot boots the guest anew, guest-poweroff shuts it down", timeout=120)
def ends():
    """The last case: it ends the VM."""
    vm = guest()
    epoch = vm.query()["epoch"]
    assert vm.qmp.cmd("guest-reboot", {"force": True}) == {}
    vm.qmp.wait_event("RESET", timeout=30)
    wait_connected(vm, epoch, 60)
    vm.guest.sync(60)
    assert vm.qmp.cmd("guest-poweroff", {"force": True}) == {}
    assert vm.qmp.wait_event("SHUTDOWN", timeout=30)["data"]["guest"]


if __name__ == "__main__":
    main()
