#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""One guest, every command: the answers against what the guest itself says."""
import base64
import os
import pathlib
import re
import tempfile
import time

from harness import (DEBUG_KERNEL, VM, QMPError, call, case, counters, driver_file, main, server_cpus,
                     set_parameter, shared, stats, wait_for)

FOLDER = tempfile.TemporaryDirectory(prefix="rvmrpc-share-")
TICK = 10_000_000       # ns of one unit in /proc/stat
REQUEST_MAX = 4096


def guest():
    """Two CPUs, a folder of the host at /mnt that the guest caches."""
    vm = shared(smp=2, share=FOLDER.name)
    vm.guest.check("grep -q ' /mnt 9p ' /proc/mounts || "
                   "mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,msize=262144 "
                   "share /mnt")
    return vm


def parse_meminfo(text):
    """Bytes by name."""
    found = re.findall(r"^(\S+):\s+(\d+)( kB)?$", text, re.MULTILINE)
    return {name: int(value) * (1024 if unit else 1) for name, value, unit in found}


@case("guest-meminfo: total to the byte, free and available within 2 %", timeout=120)
def meminfo():
    """Between two readings by the guest itself."""
    vm = guest()
    before = parse_meminfo(vm.guest.check("cat /proc/meminfo"))
    got = vm.qmp.cmd("guest-meminfo")
    after = parse_meminfo(vm.guest.check("cat /proc/meminfo"))
    total = before["MemTotal"]
    assert got["os"] == "linux" and got["total"] == total, (got, total)
    for key, name in (("free", "MemFree"), ("available", "MemAvailable")):
        low, high = sorted((before[name], after[name]))
        assert low - total * 0.02 <= got[key] <= high + total * 0.02, (key, got, before, after)
    assert got["swap-total"] == before["SwapTotal"]
    assert got["commit-limit"] == before["CommitLimit"]


@case("guest-meminfo: every member is the guest's line of that name")
def meminfo_members():
    """raw is of the same moment, so all must agree to the byte."""
    names = {
        "total": "MemTotal", "free": "MemFree", "available": "MemAvailable",
        "buffers": "Buffers", "cached": "Cached", "swap-cached": "SwapCached",
        "active": "Active", "inactive": "Inactive", "unevictable": "Unevictable",
        "dirty": "Dirty", "writeback": "Writeback", "anonymous": "AnonPages",
        "mapped": "Mapped", "shared": "Shmem", "slab": "Slab",
        "slab-reclaimable": "SReclaimable", "slab-unreclaimable": "SUnreclaim",
        "kernel-stack": "KernelStack", "page-tables": "PageTables",
        "commit-limit": "CommitLimit", "committed-as": "Committed_AS",
        "swap-total": "SwapTotal", "swap-free": "SwapFree", "hugetlb": "Hugetlb",
        "huge-size": "Hugepagesize", "percpu": "Percpu"}
    if_configured = {"cma-total": "CmaTotal", "cma-free": "CmaFree", "zswap": "Zswap", "zswapped": "Zswapped"}
    got = guest().qmp.cmd("guest-meminfo", raw=True)
    raw = parse_meminfo(got["raw"])
    names.update({key: name for key, name in if_configured.items() if name in raw})
    wanted = {key: raw[name] for key, name in names.items()}
    for key, name in (("huge-total", "HugePages_Total"), ("huge-free", "HugePages_Free")):
        wanted[key] = raw[name] * raw["Hugepagesize"]
    assert {key: value for key, value in got.items() if key not in ("os", "raw")} == wanted


@case("guest-meminfo: raw is the text of /proc/meminfo")
def meminfo_raw():
    """The same lines in the same order, and absent unless asked for."""
    vm = guest()
    raw = vm.qmp.cmd("guest-meminfo", raw=True)["raw"]
    own = vm.guest.check("cat /proc/meminfo")

    def shape(text):
        return [re.sub(r"\d+", "N", re.sub(r" +", " ", line)) for line in text.split("\n")]

    assert shape(raw) == shape(own)
    assert parse_meminfo(raw)["MemTotal"] == parse_meminfo(own)["MemTotal"]
    assert "raw" not in vm.qmp.cmd("guest-meminfo")
    assert "raw" not in vm.qmp.cmd("guest-meminfo", raw=False)


@case("guest-loadavg is /proc/loadavg, under load")
def loadavg():
    """Read between two equal readings of the guest's."""
    vm = guest()
    vm.guest.check("for i in 1 2 3; do timeout 8 sh -c 'while :; do :; done' & done; sleep 6")
    for _ in range(10):
        before = vm.guest.check("cat /proc/loadavg").split()
        got = vm.qmp.cmd("guest-loadavg")
        if vm.guest.check("cat /proc/loadavg").split()[:3] == before[:3]:
            break
    else:
        raise AssertionError("the guest's load never stands still")
    loads = [float(word) for word in before[:3]]
    assert loads[0] > 0.1, before
    assert [round(got[f"load{n}m"], 2) for n in (1, 5, 15)] == loads, (got, before)
    assert abs(got["threads"] - int(before[3].split("/")[1])) <= 5, (got, before)
    assert 1 <= got["runnable"] <= 10, got


def parse_stat(text):
    """ns by CPU (None: all) and kind."""
    times = {}
    for line in text.splitlines():
        match = re.match(r"cpu(\d*) +(.*)", line)
        if match:
            user, nice, system, idle, iowait, irq, softirq, steal = [
                int(word) * TICK for word in match.group(2).split()[:8]]
            times[int(match.group(1)) if match.group(1) else None] = {
                "user": user + nice, "system": system + irq + softirq, "idle": idle,
                "iowait": iowait, "steal": steal}
    return times


@case("guest-cpustat is /proc/stat, for each CPU and for all")
def cpustat():
    """Between two readings of the guest's, to a few ticks."""
    vm = guest()
    before = parse_stat(vm.guest.check("cat /proc/stat"))
    got = vm.qmp.cmd("guest-cpustat")
    after = parse_stat(vm.guest.check("cat /proc/stat"))
    mine = {None: got["total"], **{cpu["index"]: cpu for cpu in got["cpus"]}}
    assert set(mine) == set(before) == {None, 0, 1}
    for cpu, times in mine.items():
        for kind in ("user", "system", "idle", "iowait", "steal"):
            # Sums of rounded parts: two or three ticks of slack on each side.
            assert (before[cpu][kind] - 3 * TICK <= times[kind] <=
                    after[cpu][kind] + 3 * TICK), (cpu, kind, before, times, after)
    assert got["total"]["user"] > 0 and got["total"]["idle"] > 0


@case("guest-cpuinfo is /proc/cpuinfo")
def cpuinfo():
    """Every CPU's description, and the count after one goes offline."""
    vm = guest()
    got = vm.qmp.cmd("guest-cpuinfo")
    own = [dict(re.findall(r"^(.+?)\s*: (.*)$", part, re.MULTILINE))
           for part in vm.guest.check("cat /proc/cpuinfo").strip().split("\n\n")]
    assert got["online"] == got["present"] == len(got["cpus"]) == len(own) == 2
    for cpu, text in zip(got["cpus"], own):
        assert cpu["index"] == int(text["processor"])
        assert cpu["vendor"] == text["vendor_id"]
        assert cpu["model-name"] == text["model name"]
        assert (cpu["family"], cpu["model"], cpu["stepping"]) == (
            int(text["cpu family"]), int(text["model"]), int(text["stepping"]))
        assert abs(cpu["hz"] - float(text["cpu MHz"]) * 1e6) < 1e6, (cpu, text)
    vm.guest.check("echo 0 > /sys/devices/system/cpu/cpu1/online")
    try:
        got = vm.qmp.cmd("guest-cpuinfo")
        assert (got["online"], got["present"], len(got["cpus"])) == (1, 2, 1), got
    finally:
        vm.guest.check("echo 1 > /sys/devices/system/cpu/cpu1/online")


@case("guest-osinfo is uname, hostname and uptime")
def osinfo():
    """As the guest's own tools print them."""
    vm = guest()
    vm.guest.check("hostname rvmrpc-guest")
    start = float(vm.guest.check("cat /proc/uptime").split()[0])
    got = vm.qmp.cmd("guest-osinfo")
    end = float(vm.guest.check("cat /proc/uptime").split()[0])
    assert [got["sysname"], got["release"], got["version"], got["machine"]] == [
        vm.guest.check(f"uname -{flag}").strip() for flag in "srvm"], got
    assert got["hostname"] == "rvmrpc-guest"
    assert start - 0.1 <= got["uptime-ns"] / 1e9 <= end + 0.1, (start, got, end)
    assert abs(got["boot-time"] - int(re.search(
        r"btime (\d+)", vm.guest.check("cat /proc/stat")).group(1))) <= 1
    assert (got["page-size"], got["cpus"], got["os"]) == (4096, 2, "linux")


@case("guest-drop-caches: cached falls after a large file was read")
def drop_caches():
    """48 MiB by 9p, so that the page cache holds a file and not a disk."""
    vm = guest()
    size = 48 << 20
    pathlib.Path(FOLDER.name, "large").write_bytes(os.urandom(1 << 20) * 48)
    vm.guest.check("cat /mnt/large > /dev/null", timeout=60)
    before = vm.qmp.cmd("guest-meminfo")["cached"]
    got = vm.qmp.cmd("guest-drop-caches", mode="pagecache")
    after = vm.qmp.cmd("guest-meminfo")["cached"]
    assert before - after > size * 0.9, (before, after)
    # Pages that the kernel keeps per CPU do not count as free: an eighth of all, at most, where it has more memory.
    assert got["freed"] > size * (0.2 if DEBUG_KERNEL else 0.6), got
    assert parse_meminfo(vm.guest.check("cat /proc/meminfo"))["Cached"] < before - size * 0.8
    for mode in ("slab", "all"):
        assert vm.qmp.cmd("guest-drop-caches", mode=mode, sync=True)["freed"] >= 0


@case("9p with cache=loose: the guest sees a file's deletion after guest-drop-caches, not before")
def coherence_delete():
    """The paper's own use."""
    vm = guest()
    path = pathlib.Path(FOLDER.name, "deleted")
    path.write_text("there\n", encoding="utf-8")
    assert vm.guest.check("cat /mnt/deleted") == "there\n"
    path.unlink()
    assert vm.guest.run("test -e /mnt/deleted")[0] == 0, "seen without it: proves nothing"
    vm.qmp.cmd("guest-drop-caches", mode="all")
    assert vm.guest.run("test -e /mnt/deleted")[0] == 1


@case("9p with cache=loose: the guest sees a file that the host creates after guest-drop-caches")
def coherence_create():
    """9p caches no absence: what hides a new file is what had its name before."""
    vm = guest()
    path = pathlib.Path(FOLDER.name, "name")
    path.write_text("old\n", encoding="utf-8")
    assert vm.guest.check("cat /mnt/name") == "old\n"
    path.unlink()
    path.write_text("new and longer\n", encoding="utf-8")
    assert vm.guest.check("cat /mnt/name") == "old\n", "seen without it: proves nothing"
    vm.qmp.cmd("guest-drop-caches", mode="all")
    assert vm.guest.check("cat /mnt/name") == "new and longer\n"
    path.unlink()
    path.mkdir()
    (path / "inner").write_text("in a new folder\n", encoding="utf-8")
    assert vm.guest.run("cat /mnt/name/inner")[0] == 1, "seen without it: proves nothing"
    vm.qmp.cmd("guest-drop-caches", mode="all")
    assert vm.guest.check("cat /mnt/name/inner") == "in a new folder\n"


@case("guest-kernel-call: echo by name and by number, of every size")
def echo():
    """Nothing, one byte, all bytes, the most that fits."""
    qmp = guest().qmp
    for module, procedure in (("echo", "echo"), (1, 0), ("echo", 0), (1, "echo")):
        assert call(qmp, module, procedure, b"by any name") == ("ok", b"by any name")
    assert call(qmp, "echo", "echo") == ("ok", b"")
    for data in (b"", b"\0", bytes(range(256)), os.urandom(1000), b"\xff" * (REQUEST_MAX - 1),
                 os.urandom(REQUEST_MAX)):
        assert call(qmp, "echo", "echo", data) == ("ok", data), len(data)
    assert call(qmp, "core", "null", b"x") == ("ok", b"")


@case("guest-kernel-call: one byte more than fits is too-big, and the next call works")
def echo_too_big():
    """Refused in the host: the guest hears nothing of it."""
    vm = guest()
    calls = stats(vm)["calls"]
    refused = stats(vm)["refused"]
    assert call(vm.qmp, "echo", "echo", b"x" * (REQUEST_MAX + 1)) == ("too-big", b"")
    assert stats(vm)["calls"] == calls and stats(vm)["refused"] == refused + 1
    assert call(vm.qmp, "echo", "echo", b"x") == ("ok", b"x")


@case("guest-kernel-call: elapsed-ns is within the time that the client measures")
def elapsed():
    """And not zero."""
    qmp = guest().qmp
    start = time.monotonic_ns()
    reply = qmp.cmd("guest-kernel-call", module="echo", procedure="echo")
    took = time.monotonic_ns() - start
    assert 1000 < reply["elapsed-ns"] < took, (reply, took)


@case("procfs.read gives the guest's files, and only those that are allowed")
def procfs():
    """A module that runs in a worker."""
    vm = guest()
    own = vm.guest.check("cat /proc/version")
    assert call(vm.qmp, "procfs", "read", b"/proc/version") == ("ok", own.encode())
    assert call(vm.qmp, "procfs", "read", b"/proc/kcore")[0] == "not-allowed"
    assert call(vm.qmp, "procfs", "read", b"/proc/pressure/../kcore")[0] == "garbage-args"
    assert call(vm.qmp, "procfs", "read", b"/etc/passwd")[0] == "garbage-args"


@case("procfs.read in pieces: with an offset a file of any size can be read", timeout=90)
def procfs_pieces():
    """Of a guest with slots so small that /proc/iomem is as /proc/cpuinfo of 64 CPUs is with those that one has."""
    vm = shared(append="rvmrpc.procfs_allow=/proc/version,/proc/iomem", device_opts="response-bytes=256")
    for path in (b"/proc/version", b"/proc/iomem"):
        text = b""
        while True:
            status, piece = call(vm.qmp, "procfs", "read", path + b"\0" + len(text).to_bytes(8, "little"))
            assert status == "ok" and len(piece) <= 256, status
            if not piece:
                break
            text += piece
        assert text.decode() == vm.guest.check(f"cat {path.decode()}"), path
    assert len(text) > 512
    assert call(vm.qmp, "procfs", "read", b"/proc/iomem")[0] == "too-big"
    for tail in (b"\0", b"\0" + bytes(7), b"\0" + bytes(9), b"\0" + b"\xff" * 8):
        assert call(vm.qmp, "procfs", "read", b"/proc/version" + tail)[0] == "garbage-args", tail


@case("procfs_allow= takes blanks after commas, and refuses what it could not match")
def procfs_allow():
    """A pattern of more than 255 bytes was never looked at."""
    vm = shared(smp=2, share=FOLDER.name)
    before = vm.guest.check("cat /sys/module/rvmrpc/parameters/procfs_allow")
    set_parameter(vm, "procfs_allow", " /proc/version ,\t/proc/up[rst]ime, /proc/load* ")
    for path in (b"/proc/version", b"/proc/uptime", b"/proc/loadavg"):
        assert call(vm.qmp, "procfs", "read", path)[0] == "ok", path
    long = "/proc/" + "x" * 260
    assert vm.guest.run(f"echo '/proc/uptime,{long}' > /sys/module/rvmrpc/parameters/procfs_allow")[0] != 0
    assert call(vm.qmp, "procfs", "read", b"/proc/loadavg")[0] == "ok", "the old list is gone"
    set_parameter(vm, "procfs_allow", before.strip())


@case("query-rvmrpc says what the driver in the guest says")
def query():
    """State, epoch, gate, slots, modules; and last-seen-ms is young."""
    vm = guest()
    start = time.monotonic()
    call(vm.qmp, "echo", "echo")
    info = vm.query()
    since = (time.monotonic() - start) * 1000
    assert info["state"] == "connected" and info["os"] == "linux" and info["proxy"] == "vmm"
    assert info["abi-version"] == 2
    assert info["release"] == vm.guest.check("uname -r").strip()
    assert info["epoch"] == int(driver_file(vm, "epoch"), 16) != 0
    assert info["gate"] == driver_file(vm, "gate") == "hypercall"
    assert info["slots"] == int(driver_file(vm, "slots")) == 4
    assert info["last-seen-ms"] < 2000 + since
    assert driver_file(vm, "state") == "connected"


@case("query-rvmrpc lists the modules, their procedures and what is allowed")
def modules():
    """As docs/spec.md has them."""
    found = {m["name"]: m for m in guest().query()["modules"]}
    assert {name: m["number"] for name, m in found.items()} == {
        "core": 0, "echo": 1, "sysinfo": 2, "reclaim": 3, "procfs": 4,
        "pressure": 6, "tasks": 7, "klog": 8, "fs": 9, "net": 10, "clock": 11, "control": 12, "freeze": 13,
        "files": 14, "vmcoreinfo": 15, "connect": 16}
    flags = {(name, p["name"]): (p["number"], p["read-only"], p["may-sleep"], p["allowed"])
             for name, m in found.items() for p in m["procedures"]}
    assert flags["core", "exit"] == (3, False, False, False)
    assert flags["sysinfo", "cpustat"] == (3, True, False, True)
    assert flags["reclaim", "drop_caches"] == (0, False, True, True)
    assert flags["procfs", "read"] == (0, True, True, True)
    assert flags["klog", "read"] == (0, True, False, False)
    assert flags["vmcoreinfo", "read"] == (0, True, False, False)
    assert flags["clock", "set"] == (1, False, True, False)
    assert flags["control", "sysrq"] == (0, False, False, False)
    assert flags["freeze", "freeze"] == (0, False, True, False)
    assert flags["files", "read"] == (2, True, True, True)
    assert flags["files", "write"] == (4, False, True, False)
    assert flags["connect", "open"] == (0, False, True, True)
    assert flags["connect", "recv"] == (2, False, False, True)
    assert flags["reclaim", "shrink"] == (1, False, True, False)
    assert len(flags) == 49, flags


def settled(vm):
    """The driver's counters, which count a call after its answer: not before they are the same for a while."""
    looks = [counters(vm)["calls"]]

    def same():
        time.sleep(0.2)
        looks.append(counters(vm)["calls"])
        return looks[-1] == looks[-2]
    wait_for(same, 10, "counters that stand")
    return counters(vm)


@case("query-rvmrpc counts calls, answers and gate calls; the histogram adds up")
def counting():
    """20 calls more are 20 calls more, on both sides."""
    vm = guest()
    set_parameter(vm, "spin_us", 0)
    set_parameter(vm, "vmlp_idle_us", -1)
    before, inside = stats(vm), settled(vm)
    for _ in range(20):
        call(vm.qmp, "echo", "echo")
    after = stats(vm)
    wait_for(lambda: counters(vm)["calls"] - inside["calls"] >= 20, 10, "the driver's count")
    inside_after = settled(vm)
    set_parameter(vm, "spin_us", 1000)
    set_parameter(vm, "vmlp_idle_us", 50)
    for key in ("calls", "completed"):
        assert after[key] - before[key] == 20, (key, before, after)
    assert inside_after["calls"] - inside["calls"] == 20
    assert after["hypercalls"] - before["hypercalls"] >= 20
    assert after["doorbells"] == before["doorbells"] and after["failed"] == before["failed"]
    assert sum(after["latency-us"]) == after["completed"]
    assert after["in-flight"] == 0


@case("HMP info rvmrpc: eight lines, with the numbers of query-rvmrpc")
def hmp():
    """For people."""
    vm = guest()
    lines = vm.qmp.hmp("info rvmrpc").splitlines()
    info = vm.query()
    assert len(lines) == 8, lines
    text = "\n".join(lines)
    for word in ("connected", info["release"], f"0x{info['epoch']:016x}", "sysinfo(5)",
                 f"{info['stats']['calls']} accepted", f"{info['slots']} slots"):
        assert word in text, (word, text)
    assert all(line == line.strip() and 10 < len(line) < 100 for line in lines), lines


@case("RVMRPC_CONNECTED and RVMRPC_DISCONNECTED tell of the driver's coming and going")
def events():
    """With the epoch that query-rvmrpc shows."""
    vm = guest()
    vm.qmp.take_events()
    vm.guest.check("rmmod rvmrpc")
    gone = vm.qmp.wait_event("RVMRPC_DISCONNECTED")
    assert gone["data"] == {"reason": "guest-exit"}
    assert vm.query()["state"] == "disconnected"
    vm.guest.check("insmod /lib/rvmrpc/rvmrpc.ko")
    come = vm.qmp.wait_event("RVMRPC_CONNECTED")["data"]
    info = vm.wait_state()
    assert come == {key: info[key] for key in ("os", "release", "epoch")}
    wait_for(lambda: "modules" in vm.query(), 5, "the list of modules")


@case("the driver's parameters: changed at run time, and nonsense refused")
def parameters():
    """allow, vmlp_idle_us, cpu."""
    vm = guest()
    set_parameter(vm, "allow", "default,-echo.echo")
    assert call(vm.qmp, "echo", "echo", b"x")[0] == "not-allowed"
    set_parameter(vm, "allow", "default")
    assert call(vm.qmp, "echo", "echo", b"x")[0] == "ok"
    set_parameter(vm, "vmlp_idle_us", 0)
    assert driver_file(vm, "wait") == "spin-then-interrupt"
    set_parameter(vm, "vmlp_idle_us", -1)
    assert driver_file(vm, "wait") == "vmlp"
    set_parameter(vm, "vmlp_idle_us", 50)
    assert driver_file(vm, "wait") == "vmlp-then-interrupt"
    for name, value in (("vmlp_idle_us", "-2"), ("vmlp_idle_us", "x"), ("allow", "echo"),
                        ("allow", "a.b,,c"), ("spin_us", "-1")):
        assert vm.guest.run(f"echo '{value}' > /sys/module/rvmrpc/parameters/{name}")[0], name
    assert call(vm.qmp, "echo", "echo", b"x") == ("ok", b"x")


@case("cpu= binds the server thread to that CPU")
def bound():
    """And -1 lets it go."""
    vm = guest()

    def allowed(cpus):
        call(vm.qmp, "echo", "echo")
        return server_cpus(vm) == cpus

    for value, cpus in ((1, "1"), (0, "0"), (-1, "0-1")):
        set_parameter(vm, "cpu", value)
        wait_for(lambda c=cpus: allowed(c), 10, f"cpu={value}")


@case("the driver counts every call of a typed command once")
def typed_counts():
    """guest-* commands are calls like any other."""
    vm = guest()
    before = stats(vm)["completed"]
    for name in ("guest-meminfo", "guest-loadavg", "guest-cpuinfo", "guest-cpustat",
                 "guest-osinfo"):
        vm.qmp.cmd(name)
    assert stats(vm)["completed"] - before == 5


if __name__ == "__main__":
    main()
