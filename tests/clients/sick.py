#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What looks into a guest and helps it, by the command, on a real guest against its own truth."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from harness import Timeout, case, comment, insmod, main, shared, wait_for  # noqa: E402
from tools import PATIENT, RVMRPC, environment, rvmrpc  # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix="rvmrpc-sick-")
ALLOW = "default,klog.read,freeze.*,reclaim.*,control.*"


def guest():
    """One for all cases, with an ext4 file system at /data."""
    vm = shared(smp=2, memory="512M", device_opts=f"socket={FOLDER.name}/sick.sock",
                append=f"{PATIENT} psi=1 rvmrpc.allow={ALLOW}",
                extra=["-name", "guest=sick", "-nic", "user,model=virtio,restrict=on"])
    vm.guest.check("test -d /data || { mkdir /data && modprobe -a crc32c_generic ext4 loop virtio_net && "
                   "dd if=/dev/zero of=/tmp/image bs=1M count=24 2>/dev/null && mke2fs -F /tmp/image >/dev/null && "
                   "mount -o loop /tmp/image /data && ip link set lo up && ip addr add 192.0.2.7/25 dev eth0; }", timeout=60)
    return vm


def run(*words, **more):
    """A command that must succeed, on that guest."""
    result = rvmrpc(words[0], "sick", *words[1:], "-t", 10000, folder=FOLDER.name, **more)
    assert result.status == 0, result
    return result


def json(*words):
    """Its answer."""
    return run(*words, "--json").json()


@case("df, ip, ps, psi, dmesg, clock: the guest's own", timeout=120)
def truth():
    """As the guest's own commands and files have it."""
    vm = guest()
    size, used, free = (int(n) * 1024 for n in vm.guest.check("df -k /data | tail -n 1").split()[1:4])
    data = next(f for f in json("df")["filesystems"] if f["target"] == "/data")
    assert (data["size"], data["available"], data["size"] - data["free"]) == (size, free, used), (data, size, used, free)
    assert re.search(r"^/dev/loop0 +ext[24] .* /data$", run("df").out, re.M)
    eth0 = next(i for i in json("ip")["interfaces"] if i["name"] == "eth0")
    assert eth0["mac"] == vm.guest.check("cat /sys/class/net/eth0/address").strip()
    assert [(a["address"], a["prefix"]) for a in eth0["addresses"]] == [("192.0.2.7", 25)], eth0
    vm.guest.check("sleep 3600 & echo $! > /tmp/sleeper")
    pid = int(vm.guest.check("cat /tmp/sleeper"))
    wait_for(lambda: vm.guest.check(f"cat /proc/{pid}/comm").strip() == "sleep", 20, "sleep")
    tasks = {t["pid"]: t["name"] for t in json("ps")["tasks"]}
    assert tasks[pid] == "sleep" and tasks[1] == vm.guest.check("cat /proc/1/comm").strip(), tasks
    before = int(vm.guest.check("grep some /proc/pressure/cpu").split("total=")[1])
    pressure = {r["resource"]: r for r in json("psi")["resources"]}
    after = int(vm.guest.check("grep some /proc/pressure/cpu").split("total=")[1])
    assert before <= pressure["cpu"]["some-total-ns"] // 1000 <= after, (before, pressure, after)
    vm.guest.check("echo 'rvmrpc: marked' > /dev/kmsg")
    assert re.search(r"\] rvmrpc: marked$", run("dmesg", "-n", 5).out, re.M)
    before = int(vm.guest.check("date +%s"))
    now = json("clock")
    assert before <= now["realtime-ns"] / 1e9 <= int(vm.guest.check("date +%s")) + 1, now
    assert vm.guest.check("echo 1 > /proc/sys/kernel/sysrq") == ""
    assert run("sysrq", "h").out == "asked for 'h'\n" and "HELP" in run("dmesg", "-n", 20).out


def eat_memory(vm):
    """All but some MiB: what is available does not count what the kernel keeps for itself."""
    def hungry(size, total):
        task, available = json("ps", "--by", "memory", "-n", 1)["tasks"][0], json("meminfo")["available"]
        seen.append((task, available, size))
        return task["rss"] > size - (2 << 20) and available < total // 22

    seen = []
    memory = json("meminfo")
    # What the kernel can still give back differs: a little more each time.
    for more in (4, 8, 12, 16):
        size = memory["available"] + (more << 20)
        vm.guest.check(f"dd if=/dev/zero of=/dev/null bs={size} count=100000 2>/dev/null & echo $! > /tmp/hog")
        try:
            # It takes a while to touch all of it.
            wait_for(lambda size=size: hungry(size, memory["total"]), 10, "a guest without memory")
            return
        except Timeout:
            comment(f"the guest is not out of memory: {seen[-1]}")
            vm.guest.run("kill $(cat /tmp/hog); wait $(cat /tmp/hog)")
    raise AssertionError(seen[-4:])


@case("doctor names a full disk, a frozen one and who waits for it, and who has the memory", timeout=120)
def doctor():
    """And of the same guest, before, none of it."""
    vm = guest()

    sick = {"filesystem-full", "frozen", "blocked", "out-of-memory", "unknown", "no-answer"}
    found = {f["code"]: f["text"] for f in json("doctor")["findings"]}
    assert not sick & set(found), found
    # A monitor serves one connection at a time.
    by_monitor = rvmrpc("doctor", f"{vm.dir}/qmp2.sock", "-t", 5000)
    assert ", by qmp; " in by_monitor.out and "cannot say" not in by_monitor.out, by_monitor
    vm.guest.run("dd if=/dev/zero of=/data/all bs=64k 2>/dev/null; sync")
    assert run("freeze", "--for", 60).out.startswith("frozen: 1 file systems")
    try:
        vm.guest.check("(echo x > /data/late) & echo $! > /tmp/writer; sleep 1")
        eat_memory(vm)
        report = f"{FOLDER.name}/report"
        found = run("doctor", "--output", report).out
        comment(found)
        text = pathlib.Path(report).read_text(encoding="utf-8")
        hog = int(vm.guest.check("cat /tmp/hog"))
        for sentence in (rf"out of memory: dd \(PID {hog}\) has \d+\.\d of \d+\.\d MiB; ", r"1 task waits in \w+: sh",
                         r"/data is full: 0 B of \d+\.\d MiB left", "1 file system is frozen for a copy"):
            assert re.search(rf"^  - {sentence}", found, re.M), (sentence, text)
        writer = int(vm.guest.check("cat /tmp/writer"))
        assert re.search(rf"\nBlocked tasks\n.*\n +{writer} +{writer} .* sh\n( {{10}}\w.*\n)*", text), text
        assert "percpu" in text.split("Blocked tasks")[1] and os.stat(report).st_mode & 0o777 == 0o600
    finally:
        vm.guest.run("kill $(cat /tmp/hog)")
        thawed = run("thaw").out
    assert thawed.startswith("thawed: 1 file systems, 0 skipped, 0 lost"), thawed


@case("events: what a module of the guest tells, by the socket and by QMP")
def events():
    """As it happens; the man page's way to end."""
    vm = guest()
    insmod(vm, "rvmrpc_test_mod")
    for number, way in enumerate(("sick", f"{vm.dir}/qmp2.sock")):
        with subprocess.Popen([RVMRPC, "events", way, "-n", "1", "-t", "20000"], stdout=subprocess.PIPE, text=True,
                              env=environment(FOLDER.name)) as process:
            # It says nothing when it has begun to listen: tell until it has heard.
            while process.poll() is None:
                vm.guest.check(f"echo disk {number} is slow > /sys/module/rvmrpc_test_mod/parameters/event; sleep 0.3")
            assert re.fullmatch(rf"\S+ module 0x101, kind 7: disk {number} is slow( \(.*\))?\n", process.stdout.read())
            assert process.returncode == 0
    vm.guest.check("rmmod rvmrpc_test_mod")


@case("reclaim frees what was asked, from the cache")
def reclaim():
    """A sparse file that was read."""
    vm = guest()
    vm.guest.check("rm -f /data/all; dd if=/dev/zero of=/data/sparse bs=1 count=0 seek=80M 2>/dev/null; "
                   "cat /data/sparse > /dev/null", timeout=60)
    got = json("reclaim", "--bytes", "32M")
    assert got["end"] == "done" and 32 << 20 <= got["reclaimed"] < 36 << 20, got


if __name__ == "__main__":
    main()
