#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A FreeBSD guest that the user names: the same commands, the same keys.

RVMRPC_FREEBSD_IMAGE   disk or CD image that boots to a login or a shell on com1
RVMRPC_FREEBSD_KERNEL  or a kernel that QEMU's -kernel can start
RVMRPC_FREEBSD_KLD     folder with rvmrpc.ko and rvmrpc_test_mod.ko: of the host,
                       or of the guest as "guest:/path"
RVMRPC_FREEBSD_ARGS    further arguments of QEMU
RVMRPC_FREEBSD_USER    who logs in, without a password (default: root)

docs/freebsd.md says how to make the modules.
"""
import contextlib
import ipaddress
import os
import pathlib
import re
import shlex
import struct
import subprocess
import tempfile
import time

from harness import (VM, QMPError, Skip, call, call_args, case, main, ms, shared, wait_connected,
                     wait_for)
from harness.paths import QEMU
from harness.records import (ADDRESS, CLOCK, DISK, FILESYSTEM, INTERFACE, LOG, TASK, VMSTAT, only, page, records)

IMAGE = os.environ.get("RVMRPC_FREEBSD_IMAGE")
KERNEL = os.environ.get("RVMRPC_FREEBSD_KERNEL")
KLD = os.environ.get("RVMRPC_FREEBSD_KLD", "guest:/boot/kernel")
ARGS = os.environ.get("RVMRPC_FREEBSD_ARGS", "")
USER = os.environ.get("RVMRPC_FREEBSD_USER", "root")
REQUEST_MAX = 4096
BOOT_TIMEOUT = 300
QEMU_IMG = QEMU.with_name("qemu-img")
COMPLAINT = re.compile(r"panic:|Fatal trap|KDB: enter|Sleeping .* with|could sleep with|leaked|"
                       r"WARNING: driver bug")
# FreeBSD reports some of its own file systems' at every shutdown.
REVERSAL = re.compile(r"lock order reversal:\r?\n(?: .*\n|stack backtrace:.*\n|#.*\n)*")
TMP = tempfile.TemporaryDirectory(prefix="rvmrpc-freebsd-")


def kld_image():
    """A CD image with the modules of a folder of the host; None for the guest's own."""
    if KLD.startswith("guest:"):
        return None
    path = pathlib.Path(TMP.name) / "kld.iso"
    if not path.exists():
        subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", "RVMRPC", "-o", path, KLD],
                       check=True, stderr=subprocess.PIPE)
    return path


class FreeBSD(VM):
    """Boots what the user names; the guest's shell is on the console."""

    has_gate = True
    tells_leave = True
    saves = {}      # options of a guest that can be saved

    def __init__(self, **options):
        options = {"memory": "512M", "smp": 2, **options}
        super().__init__(kernel=None, **options)

    def _channel(self, name):
        log = ",logfile=console.log" if name == "guest" else ""
        return super()._channel(name) + log

    def _boot_args(self):
        args = shlex.split(ARGS)
        if KERNEL:
            args += ["-kernel", KERNEL]
        if IMAGE and IMAGE.endswith(".iso"):
            args += ["-drive", f"file={IMAGE},media=cdrom,format=raw,readonly=on"]
        elif IMAGE:
            args += ["-drive", f"file={IMAGE},if=virtio,snapshot=on"]
        if kld_image():
            args += ["-drive", f"file={kld_image()},media=cdrom,format=raw,readonly=on"]
        return args

    def command(self):
        """The console is the guest's first port, and its shell's."""
        swap = {"chardev:console": "chardev:guest", "chardev:guest": "chardev:console",
                "file,id=console,path=console.log,append=on": "null,id=console"}
        return [swap.get(word, word) for word in super().command()]

    def read_console(self, pattern, timeout):
        """Waits for text on the console. Unread, it holds up the guest."""
        end = time.monotonic() + timeout
        data = b""
        while not re.search(pattern, data):
            assert time.monotonic() < end, f"no {pattern} on the console: {data[-500:]}"
            self.guest.sock.settimeout(3)
            try:
                data += self.guest.sock.recv(65536)
            except TimeoutError:
                continue
        return data

    def log_in(self):
        """To a shell that neither echoes nor adds carriage returns."""
        seen = self.read_console(rb"login: ?$|[#%] ?$|shell ready", BOOT_TIMEOUT)
        if re.search(rb"login: ?$", seen):
            self.guest.sock.sendall(USER.encode() + b"\n")
            self.read_console(rb"[#%$] ?$", 60)
        for line in ("exec /bin/sh", "stty -echo -onlcr", "PS1=", "PS2="):
            self.guest.sock.sendall(line.encode() + b"\n")
            time.sleep(0.3)
        self.guest.data = b""
        self.guest.sync(30)

    def boot(self, timeout=BOOT_TIMEOUT):
        """To the shell, with both modules loaded."""
        self.start()
        self.ready()
        return self

    def ready(self):
        """From the kernel's first line to a connected driver."""
        self.log_in()
        folder = KLD.removeprefix("guest:")
        if kld_image():
            folder = "/mnt"
            self.guest.check("mount -t cd9660 /dev/iso9660/RVMRPC /mnt")
        self.guest.check(f"kldload {folder}/rvmrpc.ko")
        self.wait_state("connected", 60)
        self.folder = folder

    def load_test_module(self):
        """Module "test", allowed."""
        if self.guest.run("sysctl -n dev.rvmrpc.0.allow")[1].strip() != "default,test.*":
            self.guest.check(f"kldload {self.folder}/rvmrpc_test_mod.ko")
            self.guest.check("sysctl dev.rvmrpc.0.allow='default,test.*'")

    def complaints_now(self):
        """Lines of the console in which FreeBSD's kernel complains."""
        text = self.console()
        return ([line for line in text.splitlines() if COMPLAINT.search(line)] +
                [report for report in REVERSAL.findall(text) if "rvmrpc" in report])

    def sysctl(self, name):
        """A variable's text."""
        return self.guest.check(f"sysctl -n {name}").rstrip("\n")

    def number(self, name):
        """A variable's value."""
        return int(self.sysctl(name))

    def location(self):
        """The device's name while no driver has it."""
        return re.search(r"dbsf=(\S+)", self.sysctl("dev.rvmrpc.0.%location")).group(1)


# Whose device the guest has; tests/stock/bsd.py puts another class here.
KIND = [FreeBSD]


def needed():
    """Skips without a FreeBSD."""
    if not (IMAGE or KERNEL):
        raise Skip("RVMRPC_FREEBSD_IMAGE or RVMRPC_FREEBSD_KERNEL names no FreeBSD")


def guest(**options):
    """The guest that most cases share."""
    needed()
    return shared(KIND[0], **options)


def works(vm):
    """The channel is as good as new."""
    assert call(vm.qmp, "echo", "echo", b"still there", timeout=5000) == ("ok", b"still there")


def between(low, value, high, slack):
    """Whether a value lies between two readings that may be off by slack."""
    low, high = sorted((low, high))
    return low - slack <= value <= high + slack


@case("guest-meminfo is vm.stats.vm, total to the byte", timeout=BOOT_TIMEOUT + 60)
def meminfo():
    """Between two readings by the guest itself; what moves, within 2 %."""
    vm = guest()
    names = {"free": "v_free_count", "active": "v_active_count", "inactive": "v_inactive_count",
             "laundry": "v_laundry_count", "wired": "v_wire_count"}
    page = vm.number("hw.pagesize")

    def read():
        return {key: vm.number(f"vm.stats.vm.{name}") * page for key, name in names.items()}

    before = read()
    got = vm.qmp.cmd("guest-meminfo")
    after = read()
    total = vm.number("vm.stats.vm.v_page_count") * page
    assert got["os"] == "freebsd" and got["total"] == total, got
    assert 0.8 * vm.number("hw.physmem") < total <= vm.number("hw.physmem")
    for key in names:
        assert between(before[key], got[key], after[key], 0.02 * total), (key, got, before, after)
    assert got["swap-total"] == vm.number("vm.swap_total")
    assert got["free"] / 2 < got["available"] < total


@case("guest-meminfo: every member follows from raw, the text of the same moment")
def meminfo_raw():
    """As docs/freebsd.md maps them; absent unless asked for."""
    vm = guest()
    got = vm.qmp.cmd("guest-meminfo", raw=True)
    raw = {name.rpartition(".")[2]: int(value) for name, value in
           (line.split(": ") for line in got["raw"].splitlines())}
    page = raw["v_page_size"]
    arc = min(max(0, raw.get("size", 0) - raw.get("c_min", 0)), raw.get("arc_evictable", 0))
    anonymous = max(0, raw["swap_reserved"] - raw["swap_total"] + raw["swap_free"]) // page
    pageable = sum(raw[name] for name in ("v_active_count", "v_inactive_count", "v_laundry_count"))
    files = min(raw["v_inactive_count"], max(0, pageable - anonymous))
    want = {"total": raw["v_page_count"] * page, "free": raw["v_free_count"] * page,
            "active": raw["v_active_count"] * page, "inactive": raw["v_inactive_count"] * page,
            "laundry": raw["v_laundry_count"] * page, "wired": raw["v_wire_count"] * page,
            "committed-as": raw["swap_reserved"], "buffers": raw["bufspace"],
            "available": (raw["v_free_count"] + files - raw["v_free_reserved"]) * page + arc}
    assert {key: got[key] for key in want} == want
    assert got.get("cached") == raw.get("size")
    assert "raw" not in vm.qmp.cmd("guest-meminfo")


@case("guest-loadavg is vm.loadavg, under load", timeout=120)
def loadavg():
    """A worker of the guest's kernel spins meanwhile."""
    vm = guest()
    vm.load_test_module()
    assert call(vm.qmp, "test", "spin", ms(15000), timeout=100)[0] == "timed-out"
    wait_for(lambda: vm.qmp.cmd("guest-loadavg")["load1m"] > 0.15, 40, "load")

    def same():
        low = vm.sysctl("vm.loadavg")
        got = vm.qmp.cmd("guest-loadavg")
        if vm.sysctl("vm.loadavg") != low:
            return None
        assert got["os"] == "freebsd" and "runnable" in got
        pairs = zip(("load1m", "load5m", "load15m"), low.strip("{ }").split())
        assert all(abs(got[key] - float(value)) <= 0.006 for key, value in pairs), (got, low)
        return True

    wait_for(same, 20, "equal readings")


@case("guest-cpuinfo is hw.ncpu and hw.model")
def cpuinfo():
    """For each CPU."""
    vm = guest()
    got = vm.qmp.cmd("guest-cpuinfo")
    assert got["os"] == "freebsd" and got["online"] == vm.number("hw.ncpu") == len(got["cpus"])
    assert [cpu["index"] for cpu in got["cpus"]] == list(range(got["online"]))
    for cpu in got["cpus"]:
        assert cpu["model-name"] == vm.sysctl("hw.model")
        assert cpu["hz"] == vm.number("machdep.tsc_freq")
        assert cpu["vendor"] and cpu["family"] >= 6


@case("guest-cpustat is kern.cp_time, for each CPU and for all")
def cpustat():
    """Ticks as shares of the whole, and the whole as the guest's time."""
    vm = guest()
    before = [int(x) for x in vm.sysctl("kern.cp_time").split()]
    got = vm.qmp.cmd("guest-cpustat")
    after = [int(x) for x in vm.sysctl("kern.cp_time").split()]
    uptime = vm.qmp.cmd("guest-osinfo")["uptime-ns"]
    total = got["total"]
    whole = sum(total.values())
    assert set(total) == {"user", "system", "idle"}, total
    for key, ticks in (("user", (0, 1)), ("system", (2, 3)), ("idle", (4,))):
        shares = [sum(t[i] for i in ticks) / sum(t) for t in (before, after)]
        assert between(shares[0], total[key] / whole, shares[1], 0.01), (key, got, before, after)
        assert sum(cpu[key] for cpu in got["cpus"]) <= total[key] * 1.01 + 1e8
    assert 0.5 < whole / (uptime * len(got["cpus"])) < 1.1, (whole, uptime)


@case("guest-osinfo is kern.ostype, osrelease and hostname")
def osinfo():
    """And the uptime grows."""
    vm = guest()
    got = vm.qmp.cmd("guest-osinfo")
    assert got["sysname"] == vm.sysctl("kern.ostype") == "FreeBSD"
    assert got["release"] == vm.sysctl("kern.osrelease")
    assert got["hostname"] == vm.sysctl("kern.hostname")
    assert got["version"] == vm.sysctl("kern.version").split("\n")[0]
    assert got["cpus"] == vm.number("hw.ncpu") and got["page-size"] == vm.number("hw.pagesize")
    assert vm.qmp.cmd("guest-osinfo")["uptime-ns"] > got["uptime-ns"]


@case("echo of every size, by name and by number")
def echo():
    """And one byte more than fits."""
    vm = guest()
    for size in (0, 1, 64, 1000, REQUEST_MAX):
        data = os.urandom(size)
        assert call(vm.qmp, "echo", "echo", data) == ("ok", data), size
        assert call(vm.qmp, 1, 0, data) == ("ok", data), size
    assert call(vm.qmp, "echo", "echo", b"x" * (REQUEST_MAX + 1)) == ("too-big", b"")
    works(vm)


@case("query-rvmrpc and info rvmrpc: OS, release and modules")
def query():
    """What the driver itself says."""
    vm = guest()
    info = vm.query()
    assert (info["os"], info["release"]) == ("freebsd", vm.sysctl("kern.osrelease"))
    assert {m["name"] for m in info["modules"]} >= {
        "core", "echo", "sysinfo", "reclaim", "sysctl", "pressure", "tasks", "klog", "fs", "net", "clock", "control",
        "freeze"}
    assert vm.sysctl("dev.rvmrpc.0.state") == "connected"
    assert vm.sysctl("dev.rvmrpc.0.gate") == ("hypercall" if vm.has_gate else "none")
    assert vm.sysctl("dev.rvmrpc.0.window") == "write-back"
    assert vm.number("dev.rvmrpc.0.slots") == 4
    assert vm.number("dev.rvmrpc.0.epoch") == info["epoch"]
    assert vm.guest.run("su -m nobody -c 'sysctl -n dev.rvmrpc.0.epoch'")[0], "shown to everybody"
    if vm.has_gate:
        assert "freebsd" in vm.qmp.hmp("info rvmrpc")


@case("sysctl.read is sysctl -n, of what is allowed")
def sysctl_read():
    """Strings and integers; the rest is refused."""
    vm = guest()
    for name in ("kern.ostype", "hw.ncpu", "hw.physmem", "vm.stats.vm.v_page_count", "hw.model"):
        assert call(vm.qmp, "sysctl", "read", name.encode()) == \
            ("ok", vm.sysctl(name).encode()), name
    status, text = call(vm.qmp, "sysctl", "read", b"kern.cp_time")
    assert status == "ok" and len(text.split()) == 5
    assert call(vm.qmp, "sysctl", "read", b"kern.hostuuid")[0] == "not-allowed"
    assert call(vm.qmp, "sysctl", "read", b"vm.stats.nonsense")[0] == "garbage-args"
    assert call(vm.qmp, "sysctl", "read", b"vm.stats.vm")[0] == "garbage-args"
    assert call(vm.qmp, "sysctl", "read", b"hw.ncpu\0")[0] == "garbage-args"
    assert call(vm.qmp, "sysctl", "read", b"")[0] == "garbage-args"
    works(vm)


@case("sysctl.read of a network stack's variable, when allowed: no panic")
def sysctl_vnet():
    """A worker's thread is in no such stack by itself."""
    vm = guest()
    allow = vm.sysctl("dev.rvmrpc.0.sysctl_allow")
    vm.guest.check("sysctl dev.rvmrpc.0.sysctl_allow='net.inet.*'")
    try:
        assert call(vm.qmp, "sysctl", "read", b"net.inet.ip.ttl") == ("ok", vm.sysctl("net.inet.ip.ttl").encode())
        # A structure: refused, and its handler is not run for it.
        assert call(vm.qmp, "sysctl", "read", b"net.inet.tcp.stats")[0] == "garbage-args"
    finally:
        vm.guest.check(f"sysctl dev.rvmrpc.0.sysctl_allow='{allow}'")
    works(vm)


@case("guest-drop-caches runs the vm_lowmem event")
def drop_caches():
    """In every mode."""
    vm = guest()
    for mode in ("pagecache", "slab", "all"):
        assert vm.qmp.cmd("guest-drop-caches", mode=mode, sync=True)["freed"] >= 0
    assert call(vm.qmp, "reclaim", "drop_caches", b"\x07" + b"\0" * 7)[0] == "garbage-args"


# ---- What looks after a guest, against the guest's own truth ----

@contextlib.contextmanager
def allowing(vm, more):
    """With more on the allow-list."""
    allow = vm.sysctl("dev.rvmrpc.0.allow")
    vm.guest.check(f"sysctl dev.rvmrpc.0.allow='{allow},{more}'")
    try:
        yield
    finally:
        vm.guest.check(f"sysctl dev.rvmrpc.0.allow='{allow}'")


@case("what changes something, and the log, is not in the default list")
def secrets():
    """As on Linux."""
    vm = guest()
    for module, procedure, data in (("klog", "read", None), ("clock", "set", bytes(16)), ("control", "sync", None),
                                    ("control", "reboot", bytes(8)), ("freeze", "freeze", bytes(8)),
                                    ("reclaim", "shrink", bytes(8))):
        assert call(vm.qmp, module, procedure, data)[0] == "not-allowed", (module, procedure)


@case("fs.list is df: sizes and inodes of what holds data")
def filesystems():
    """And nothing of devfs, procfs, tmpfs."""
    vm = guest()
    vm.guest.run("mount -t tmpfs tmpfs /media")
    got = {only(f, 1): f for kind, f in records(vm.qmp, "fs", "list") if kind == FILESYSTEM}
    mounts = [line.split() for line in vm.guest.check("mount -p").splitlines()]
    none = {"devfs", "procfs", "tmpfs", "fdescfs", "linprocfs", "linsysfs"}
    assert set(got) == {words[1] for words in mounts if words[2] not in none}, (got, mounts)
    assert len(records(vm.qmp, "fs", "list", limit=1)) == len(got)
    for source, target, kind, options in (words[:4] for words in mounts if words[2] not in none):
        mine = got[target]
        own = vm.guest.check(f"df -k -i {target} | tail -n 1").split()
        blocks, used, left, inodes_used, inodes_left = (int(own[i]) for i in (1, 2, 3, 5, 6))
        assert (only(mine, 2), only(mine, 3)) == (source, kind), mine
        assert only(mine, 6) == ("ro" in options.split(",")), (mine, options)
        assert only(mine, 8) // 1024 == blocks and not {7, 13} & set(mine), (mine, own)
        # The guest writes to it meanwhile.
        assert abs((only(mine, 8) - only(mine, 9)) / 1024 - used) < 1024, (mine, own)
        assert abs(only(mine, 10) / 1024 - max(0, left)) < 1024, (mine, own)
        if 11 in mine:
            assert only(mine, 11) == inodes_used + inodes_left, (mine, own)
            assert abs(only(mine, 12) - inodes_left) < 100, (mine, own)


@case("net.list is ifconfig: names, MACs, MTUs, states, addresses, counters")
def net():
    """IPv4 and IPv6, page by page, too."""
    vm = guest()
    vm.guest.check("ifconfig lo1 >/dev/null 2>&1 || ifconfig lo1 create; ifconfig lo1 inet 192.0.2.7/25 mtu 1400 up; "
                   "ifconfig lo1 inet6 2001:db8::7 prefixlen 48; ping -c 2 -q 192.0.2.7 >/dev/null")
    got = records(vm.qmp, "net", "list")
    assert len(records(vm.qmp, "net", "list", limit=1)) == len(got) > 3
    interfaces = {only(f, 2): f for kind, f in got if kind == INTERFACE}
    assert set(interfaces) == set(vm.guest.check("ifconfig -l").split()), interfaces
    index = {only(f, 1): name for name, f in interfaces.items()}
    mine = {(index[only(f, 1)], ipaddress.ip_interface(f"{ipaddress.ip_address(only(f, 2))}/{only(f, 3)}"))
            for kind, f in got if kind == ADDRESS}
    theirs = set()
    for name, f in interfaces.items():
        own = vm.guest.check(f"ifconfig {name}")
        assert only(f, 4) == int(re.search(r"mtu (\d+)", own).group(1)), (f, own)
        assert only(f, 5) == ("<UP" in own), (f, own)
        ether = re.search(r"^\s+ether (\S+)", own, re.M)
        assert (only(f, 3).hex(":") if 3 in f else None) == (ether.group(1) if ether else None), (f, own)
        for address, mask in re.findall(r"^\s+inet (\S+) .*?netmask (0x\w+)", own, re.M):
            theirs.add((name, ipaddress.ip_interface(f"{address}/{bin(int(mask, 16)).count('1')}")))
        for address, prefix in re.findall(r"^\s+inet6 ([^\s%]+)\S* prefixlen (\d+)", own, re.M):
            theirs.add((name, ipaddress.ip_interface(f"{address}/{prefix}")))
    assert mine == theirs and ("lo1", ipaddress.ip_interface("192.0.2.7/25")) in mine, (mine, theirs)
    assert only(interfaces["lo1"], 7) == 1 and only(interfaces["lo1"], 9) >= 4, interfaces["lo1"]
    scopes = {str(ipaddress.ip_address(only(f, 2))): only(f, 4) for kind, f in got if kind == ADDRESS}
    assert scopes["2001:db8::7"] == "global" and scopes.get("127.0.0.1", "host") == "host", scopes


@case("clock.read is date; clock.set steps it, however late the call comes")
def clock():
    """And back again."""
    vm = guest()

    def read():
        (kind, fields), = records(vm.qmp, "clock", "read")
        assert kind == CLOCK
        return [only(fields, key) for key in (1, 2, 3)]

    real, mono, boot = read()
    assert mono == boot > 10**9 and abs(real / 1e9 - int(vm.guest.check("date +%s"))) < 3
    with allowing(vm, "clock.set"):
        for step in (3600, -3600):
            real, _, boot = read()
            wanted = real + step * 10**9
            time.sleep(1)
            status, data = call(vm.qmp, "clock", "set", struct.pack("<QQ", wanted, boot), 10000)
            assert status == "ok", status
            old, new = struct.unpack("<QQ", data)
            assert abs(new - old - step * 10**9) < 10**8, (old, new)
            later, _, boot2 = read()
            assert abs((later - wanted) - (boot2 - boot)) < 10**8, (later, wanted, boot, boot2)
            assert abs(int(vm.guest.check("date +%s")) - later / 1e9) < 3
        for bad in ((wanted, boot2 + 10**12), (0, 0), (2**64 - 1, 0)):
            assert call(vm.qmp, "clock", "set", struct.pack("<QQ", *bad))[0] == "garbage-args", bad


def ps_rows(vm):
    """{pid: (parent, user, threads, name)} as ps(1) has them."""
    text = vm.guest.check("ps -axww -o pid= -o ppid= -o ruid= -o nlwp= -o ucomm=")
    rows = (line.split(None, 4) for line in text.splitlines())
    return {int(row[0]): (int(row[1]), int(row[2]), int(row[3]), row[4].strip()) for row in rows}


@case("tasks.list is ps: names, parents, users, threads, states, memory, time")
def tasks():
    """All, page by page, too; sorted and cut."""
    vm = guest()
    pid = int(vm.guest.check("sleep 3600 >/dev/null 2>&1 & echo $!"))
    try:
        before = ps_rows(vm)
        listed = [f for kind, f in records(vm.qmp, "tasks", "list") if kind == TASK]
        after = ps_rows(vm)
        assert [only(f, 1) for f in listed] == sorted(only(f, 1) for f in listed)
        got = {only(f, 1): f for f in listed}
        # The idle CPUs' is none that anybody could want to know of.
        stable = {p for p in before if before[p] == after.get(p) and before[p][3] != "idle"}
        assert stable <= set(got) and pid in stable, stable - set(got)
        assert "idle" not in {only(f, 3) for f in listed if 7 in f}, listed
        for p in stable:
            mine = tuple(only(got[p], key) for key in (5, 6, 8, 3))
            assert mine == before[p], (p, mine, before[p])
        paged = {only(f, 1) for _, f in records(vm.qmp, "tasks", "list", limit=7)}
        assert stable <= paged, stable - paged
        sleeper = got[pid]
        assert only(sleeper, 4) == "S" and 7 not in sleeper, sleeper
        assert only(sleeper, 13) == vm.guest.check(f"ps -o mwchan= -p {pid}").strip(), sleeper
        rss = int(vm.guest.check(f"ps -o rss= -p {pid}")) * 1024
        # ps adds the thread's stack in the kernel.
        assert 0 < only(sleeper, 9) <= rss < only(sleeper, 9) + (1 << 20), (sleeper, rss)
        assert only(got[0], 7) == 1 and 9 not in got[0], got[0]
        for select, key in ((1, 9), (2, 10)):
            most = [only(f, key) for _, f in page(vm.qmp, "tasks", "list", select=select, limit=5)[0] if key in f]
            assert most == sorted(most, reverse=True) and most, most
            assert most[0] >= max(only(f, key) for f in listed if key in f) * 0.5, (most, key)
    finally:
        vm.guest.check(f"kill {pid}")


@case("klog.read is dmesg, and goes on where it ended")
def klog():
    """What the driver itself prints is in it."""
    vm = guest()
    with allowing(vm, "klog.read"):
        assert vm.guest.run("sysctl dev.rvmrpc.0.allow='default,!'")[0]
        text = vm.guest.check("dmesg -a", timeout=60)
        got = [f for kind, f in records(vm.qmp, "klog", "read") if kind == LOG]
        own, mine = text.splitlines(), [only(f, 5) for f in got]
        assert mine[-20:] == own[-20:] and len(mine) >= min(len(own) - 1, 20), (mine[-20:], own[-20:])
        numbers = [only(f, 1) for f in got]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), numbers
        last, following, flags = page(vm.qmp, "klog", "read", select=1, limit=3)
        assert len(last) == 3 and flags == 0 and following == numbers[-1] + 1, (last, following, flags)
        assert "allow: cannot read it" in " ".join(mine[-20:])
        assert page(vm.qmp, "klog", "read", cursor=following)[0] == []
        assert vm.guest.run("sysctl dev.rvmrpc.0.allow='default,!'")[0]
        later, following2, _ = page(vm.qmp, "klog", "read", cursor=following)
        assert following2 == following + len(later) > following and "cannot read it" in only(later[0][1], 5), later
        assert page(vm.qmp, "klog", "read", cursor=2**63)[:2] == ([], following2)
        assert call(vm.qmp, "klog", "read", struct.pack("<QII", 1, 1, 3))[0] == "garbage-args"


@case("pressure: vmstat is vm.stats.vm, disks are kern.disks'; no PSI")
def pressure():
    """Between two readings of the guest's."""
    names = {2: "v_vm_faults", 3: "v_io_faults", 6: "v_swappgsin", 7: "v_swappgsout", 8: "v_pdpages", 10: "v_dfree"}
    vm = guest()
    # They are of 32 bits there.
    before = {key: vm.number(f"vm.stats.vm.{name}") for key, name in names.items()}
    (kind, got), = records(vm.qmp, "pressure", "vmstat")
    after = {key: vm.number(f"vm.stats.vm.{name}") for key, name in names.items()}
    assert kind == VMSTAT and only(got, 1) == vm.number("hw.pagesize") and only(got, 2) > 1000
    for key in names:
        assert before[key] <= only(got, key) & 0xffffffff <= after[key], (key, before, got, after)
    assert records(vm.qmp, "pressure", "psi") == []
    disk = vm.sysctl("kern.disks").split()[0]

    def disks():
        return {only(f, 1): f for kind, f in records(vm.qmp, "pressure", "disks") if kind == DISK}

    low = disks().get(disk, {3: [0], 5: [0]})
    vm.guest.check(f"dd if=/dev/{disk} of=/dev/null bs=64k count=16 2>/dev/null")
    high = disks()
    assert only(high[disk], 3) >= only(low, 3) + 16 and only(high[disk], 5) >= only(low, 5) + (1 << 20), (low, high)
    assert only(high[disk], 11) == 0 or only(high[disk], 11) < 100, high


def freeze_state(vm, procedure, data=None):
    """(state, count, skipped, lost, left in ms)."""
    status, answer = call(vm.qmp, "freeze", procedure, data, 20000)
    assert status == "ok", (procedure, status)
    return struct.unpack("<6I", answer)[:5]


@case("freeze: UFS stands still until thaw, or until the guest's own deadline", timeout=90)
def freeze():
    """Who waits is in tasks.blocked, with the kernel's word for it."""
    vm = guest()
    vm.guest.check("mdconfig -a -t malloc -s 16m -u 7 >/dev/null && newfs /dev/md7 >/dev/null && mkdir -p /tmp/frozen && "
                   "mount /dev/md7 /tmp/frozen")
    count = sum("read-only" not in line for line in vm.guest.check("mount -t ufs").splitlines())
    late = "(echo x > /tmp/frozen/late) >/dev/null 2>&1 & echo $!; sleep 1"
    with allowing(vm, "freeze.*"):
        try:
            assert freeze_state(vm, "status")[:2] == (0, 0)
            state, frozen, _, _, left = freeze_state(vm, "freeze", struct.pack("<II", 60000, 0))
            assert (state, frozen) == (2, count) and 40000 < left <= 60000, (state, frozen, left)
            assert call(vm.qmp, "freeze", "freeze", struct.pack("<II", 1000, 0), 5000)[0] == "busy"
            writer = int(vm.guest.check(late))
            assert vm.guest.run("test -e /tmp/frozen/late")[0], "it was written"
            blocked = {only(f, 1): f for _, f in records(vm.qmp, "tasks", "blocked")}
            assert only(blocked[writer], 4) == "D", blocked
            assert only(blocked[writer], 13) == vm.guest.check(f"ps -o mwchan= -p {writer}").strip(), blocked
            assert freeze_state(vm, "thaw")[:4] == (0, count, freeze_state(vm, "status")[2], 0)
            wait_for(lambda: vm.guest.run("test -e /tmp/frozen/late")[0] == 0, 5, "the write")
            assert freeze_state(vm, "freeze", struct.pack("<II", 2000, 0))[:2] == (2, count)
            vm.guest.check("timeout 20 sh -c 'echo x > /tmp/frozen/expired'")
            wait_for(lambda: freeze_state(vm, "status")[:2] == (3, 0), 5, "expiry")
            assert freeze_state(vm, "thaw")[:2] == (3, 0)
        finally:
            call(vm.qmp, "freeze", "thaw", timeout=20000)
    vm.guest.check("umount /tmp/frozen && mdconfig -d -u 7")


@case("reclaim.shrink says what it freed and how it ended; control.sync; what FreeBSD has not", timeout=90)
def shrink():
    """It harms nothing."""
    vm = guest()
    with allowing(vm, "reclaim.*,control.*"):
        status, data = call(vm.qmp, "reclaim", "shrink", struct.pack("<Q", 1 << 40), 20000)
        freed, reclaimed, end, _ = struct.unpack("<QQII", data)
        assert status == "ok" and end in (1, 2) and reclaimed == freed < 1 << 30, (status, freed, reclaimed, end)
        assert call(vm.qmp, "reclaim", "compact")[0] == "procedure-unavailable"
        assert call(vm.qmp, "control", "sysrq", struct.pack("<II", ord("m"), 0))[0] == "procedure-unavailable"
        vm.guest.check("dd if=/dev/zero of=/tmp/dirty bs=64k count=16 2>/dev/null")
        assert call(vm.qmp, "control", "sync", timeout=20000) == ("ok", b"")
    works(vm)


@case("guest-meminfo answers while the guest is out of memory", timeout=150)
def starved():
    """Each call in time, until the kernel kills the process that took all there was.

    With one CPU: with more, FreeBSD's own TLB shootdowns take seconds where the CPUs have to share one of the host's.
    """
    vm = guest(smp=1)
    vm.guest.run("swapoff -a")
    started = vm.guest.start("x=0123456789abcdef; while x=$x$x; do :; done", 90)
    least = total = vm.qmp.cmd("guest-meminfo")["total"]

    def is_over():
        nonlocal least
        free = vm.qmp.cmd("guest-meminfo")["free"]
        least = min(least, free)
        return least < 0.05 * total and free > 0.1 * total

    wait_for(is_over, 80, "end of the process that takes the memory")
    assert vm.guest.finish(started)[0] != 0
    works(vm)


@case("a procedure that is not allowed: not-allowed")
def not_allowed():
    """core.exit by default, and what allow takes away; nonsense is refused."""
    vm = guest()
    assert call(vm.qmp, "core", "exit") == ("not-allowed", b"")
    allow = vm.sysctl("dev.rvmrpc.0.allow")
    assert vm.guest.run("sysctl dev.rvmrpc.0.allow='default,!'")[0]
    vm.guest.check("sysctl dev.rvmrpc.0.allow='default,-sysinfo.meminfo'")
    try:
        vm.qmp.cmd("guest-meminfo")
        raise AssertionError("guest-meminfo is allowed")
    except QMPError as error:
        assert error.desc.startswith("not-allowed"), error
    finally:
        vm.guest.check(f"sysctl dev.rvmrpc.0.allow='{allow}'")
    vm.qmp.cmd("guest-meminfo")


def set_waits(vm, spin_us=200, idle_us=50):
    """How the server thread waits; by default as the driver has it."""
    vm.guest.check(f"sysctl dev.rvmrpc.0.spin_us={spin_us} dev.rvmrpc.0.vmlp_idle_us={idle_us}")


def needs_vmlp(vm):
    """Skips where the host has no gate that waits."""
    if "vmlp" not in vm.sysctl("dev.rvmrpc.0.wait"):
        raise Skip("no gate waits here")


def waits(spin_us, idle_us, wait):
    """1,000 calls in one way of waiting, and what the driver counts meanwhile."""
    vm = guest()
    if "vmlp" in wait:
        needs_vmlp(vm)
    set_waits(vm, spin_us, idle_us)
    try:
        assert vm.sysctl("dev.rvmrpc.0.wait") == wait
        names = ("calls", "waits", "sleeps", "spins", "errors", "malformed", "resets")
        before = {name: vm.number(f"dev.rvmrpc.0.counters.{name}") for name in names}
        for i in range(1000):
            data = i.to_bytes(4, "little")
            assert call(vm.qmp, "echo", "echo", data) == ("ok", data)
        got = {name: vm.number(f"dev.rvmrpc.0.counters.{name}") - before[name] for name in names}
    finally:
        set_waits(vm)
    # A client that resolves names or asks for the list calls more often.
    assert got["calls"] >= 1000 and not got["errors"] + got["malformed"] + got["resets"], got
    assert (got["waits"] == 0) == ("vmlp" not in wait), got
    assert got["spins"] == 0 or spin_us, got
    assert idle_us < 0 or got["sleeps"] > 0, got


case("1,000 calls, asleep until the interrupt", spin_us=0, idle_us=0, wait="interrupt")(waits)
case("1,000 calls, spinning as the host lets it", spin_us=200, idle_us=0,
     wait="spin-then-interrupt")(waits)
case("1,000 calls, in VMLP for a while", spin_us=0, idle_us=50, wait="vmlp-then-interrupt")(waits)
case("1,000 calls, always in VMLP", spin_us=0, idle_us=-1, wait="vmlp", timeout=120)(waits)


@case("always in VMLP: the server thread is no load, and the guest's shell is not held up")
def vmlp_load():
    """It runs while it counts the runnable threads, and must not count itself."""
    vm = guest()
    needs_vmlp(vm)
    set_waits(vm, idle_us=-1)
    try:
        wait_for(lambda: vm.qmp.cmd("guest-loadavg")["runnable"] == 0, 30, "nothing runnable")
        start = time.monotonic()
        for _ in range(20):
            vm.sysctl("hw.ncpu")
        assert time.monotonic() - start < 5
    finally:
        set_waits(vm)


@case("a procedure past its deadline: timed-out, and others go on")
def deadline():
    """In a worker, and in the server thread."""
    vm = guest()
    vm.load_test_module()
    start = time.monotonic()
    assert call(vm.qmp, "test", "sleep", ms(2000), timeout=300) == ("timed-out", b"")
    assert 0.29 < time.monotonic() - start < 1
    works(vm)
    assert time.monotonic() - start < 2
    assert call(vm.qmp, "test", "sleep-inline", ms(1000), timeout=300) == ("timed-out", b"")
    time.sleep(2)
    works(vm)
    assert call(vm.qmp, "test", "sleep", ms(100), timeout=3000) == ("ok", b"")
    assert call(vm.qmp, "test", "fail", ms(4)) == ("garbage-args", b"")
    assert call(vm.qmp, "test", "fail", ms(10)) == ("system-error", b"")


@case("a request that the server thread finds after its deadline does not run")
def late_request():
    """What held the thread up was another procedure."""
    vm = guest()
    vm.load_test_module()
    before = call(vm.qmp, "test", "count", timeout=5000)[1]
    slow = vm.qmp2.send("guest-kernel-call", call_args("test", "sleep-inline", ms(1500), 5000))
    time.sleep(0.3)
    assert call(vm.qmp, "test", "count", timeout=300) == ("timed-out", b"")
    assert vm.qmp2.recv(slow)["status"] == "ok"
    assert call(vm.qmp, "test", "count", timeout=5000) == ("ok", ms(int.from_bytes(before, "little") + 1))


def hold_workers(vm, seconds):
    """Takes every worker, one fewer than there are slots, past its deadline."""
    for _ in range(3):
        assert call(vm.qmp, "test", "sleep", ms(seconds * 1000), timeout=200)[0] == "timed-out"


@case("every worker hangs: one slot is left for what never sleeps; then hello again", timeout=90)
def stuck():
    """With fresh workers; what was left behind ends later, and is heard of by nobody."""
    vm = guest()
    vm.load_test_module()
    epoch = vm.query()["epoch"]
    late, watchdog = (vm.number(f"dev.rvmrpc.0.counters.{name}") for name in ("late", "watchdog"))
    hold_workers(vm, 12)
    assert call(vm.qmp, "test", "sleep", ms(10), timeout=200)[0] == "busy"
    works(vm)
    wait_connected(vm, epoch)
    works(vm)
    assert vm.number("dev.rvmrpc.0.counters.watchdog") == watchdog + 1
    assert vm.number("dev.rvmrpc.0.abandoned") == 3
    assert call(vm.qmp, "test", "sleep", ms(10), timeout=2000)[0] == "ok"
    wait_for(lambda: vm.number("dev.rvmrpc.0.abandoned") == 0, 40, "end of the old workers")
    assert vm.number("dev.rvmrpc.0.counters.late") == late + 3
    works(vm)


@case("a procedure that wakes two epochs later touches no slot", timeout=90)
def two_epochs():
    """The slot that it had is another call's by then."""
    vm = guest()
    vm.load_test_module()
    late = vm.number("dev.rvmrpc.0.counters.late")
    assert call(vm.qmp, "test", "sleep", ms(6000), timeout=200)[0] == "timed-out"
    for _ in range(2):
        epoch = vm.query()["epoch"]
        vm.guest.check("devctl suspend rvmrpc0; devctl resume rvmrpc0")
        wait_connected(vm, epoch)
    assert vm.number("dev.rvmrpc.0.abandoned") == 1
    end = time.monotonic() + 8
    while time.monotonic() < end:
        works(vm)
        assert call(vm.qmp, "test", "sleep", ms(10), timeout=2000) == ("ok", b"")
    assert vm.number("dev.rvmrpc.0.counters.late") == late + 1
    wait_for(lambda: vm.number("dev.rvmrpc.0.abandoned") == 0, 10, "end of the old worker")


@case("unload under calls: busy past a deadline, else it waits; then it loads again", timeout=90)
def unload():
    """Both modules."""
    vm = guest()
    vm.load_test_module()
    assert call(vm.qmp, "test", "sleep", ms(3000), timeout=200)[0] == "timed-out"
    assert vm.guest.run("kldunload rvmrpc_test_mod")[0], "unloaded under its own call"
    time.sleep(3.5)
    vm.guest.check("kldunload rvmrpc_test_mod")
    vm.guest.check("kldunload rvmrpc")
    vm.wait_state("disconnected", 10)
    assert call(vm.qmp, "echo", "echo", b"x")[0] == "not-connected"
    for _ in range(5):
        vm.guest.check(f"kldload {vm.folder}/rvmrpc.ko")
        vm.wait_state("connected", 20)
        works(vm)
        vm.guest.check("kldunload rvmrpc")
    vm.guest.check(f"kldload {vm.folder}/rvmrpc.ko")
    vm.wait_state("connected", 20)
    works(vm)


@case("devctl detach: busy while a call is past its deadline, and then nothing has changed")
def detach():
    """Later it works, and the device can be attached again."""
    vm = guest()
    vm.load_test_module()
    location = vm.location()
    epoch = vm.query()["epoch"]
    assert call(vm.qmp, "test", "sleep", ms(2500), timeout=200)[0] == "timed-out"
    assert vm.guest.run("devctl detach rvmrpc0")[0], "detached under a call"
    assert vm.query()["epoch"] == epoch
    works(vm)
    time.sleep(3)
    ident = vm.qmp.send("guest-kernel-call", call_args("test", "sleep", ms(1000), 5000))
    start = time.monotonic()
    vm.guest.check("devctl detach rvmrpc0")
    assert time.monotonic() - start > 0.5, "did not wait for the worker"
    assert vm.qmp.recv(ident)["status"] == "not-connected"
    vm.guest.check(f"devctl attach {location}")
    vm.wait_state("connected", 20)
    works(vm)


@case("devctl detach while the driver's variables are read and written: none is used after", timeout=120)
def detach_under_sysctl():
    """They go before what they show does; else the guest hangs or panics."""
    vm = guest()
    location = vm.location()
    vm.guest.check("while :; do sysctl dev.rvmrpc.0; sysctl dev.rvmrpc.0.spin_us=200; done "
                   ">/dev/null 2>&1 & trap \"kill $!\" EXIT; for i in 1 2 3 4 5 6 7 8 9 10; do "
                   f"devctl detach rvmrpc0 && devctl attach {location} || exit 1; done", 90)
    vm.wait_state("connected", 20)
    assert vm.sysctl("dev.rvmrpc.0.state") == "connected"
    works(vm)


@case("what the administrator changed outlives a device that goes and comes")
def keeps_parameters():
    """The loader's tunables count once, when the driver is loaded; unset ones likewise."""
    vm = guest()
    location = vm.location()
    allow = vm.sysctl("dev.rvmrpc.0.allow")
    vm.guest.check("kenv hw.rvmrpc.allow=default; kenv hw.rvmrpc.spin_us=7; "
                   "sysctl dev.rvmrpc.0.allow=core.*,echo.* dev.rvmrpc.0.spin_us=77")
    try:
        vm.guest.check(f"devctl detach rvmrpc0; devctl attach {location}")
        vm.wait_state("connected", 20)
        assert vm.sysctl("dev.rvmrpc.0.allow") == "core.*,echo.*"
        assert vm.number("dev.rvmrpc.0.spin_us") == 77
    finally:
        vm.guest.check("kenv -u hw.rvmrpc.allow; kenv -u hw.rvmrpc.spin_us; "
                       f"sysctl dev.rvmrpc.0.allow='{allow}'")
        set_waits(vm)
    works(vm)


@case("devctl suspend and resume: away meanwhile, and back")
def suspend():
    """As before and after a sleep of the whole guest."""
    vm = guest()
    for _ in range(3):
        vm.guest.check("devctl suspend rvmrpc0")
        assert vm.query()["state"] == "disconnected"
        assert vm.sysctl("dev.rvmrpc.0.state") == "stopped"
        vm.guest.check("devctl resume rvmrpc0")
        vm.wait_state("connected", 20)
        works(vm)


@case("devctl suspend while a procedure holds the server thread: busy, and then nothing has changed", timeout=90)
def suspend_held():
    """Nor does it hold a reboot up."""
    vm = guest()
    vm.load_test_module()
    assert call(vm.qmp, "test", "sleep-inline", ms(8000), timeout=100)[0] == "timed-out"
    start = time.monotonic()
    assert vm.guest.run("devctl suspend rvmrpc0")[0]
    assert 1 < time.monotonic() - start < 6
    wait_for(lambda: vm.query()["state"] == "connected", 30, "the end of the procedure")
    works(vm)
    vm.guest.check("devctl suspend rvmrpc0; devctl resume rvmrpc0")
    vm.wait_state("connected", 20)
    works(vm)


@case("core.exit, when allowed, ends the server; attaching the device anew brings it back")
def core_exit():
    """The answer still arrives."""
    vm = guest()
    vm.guest.check("sysctl dev.rvmrpc.0.allow='default,core.exit'")
    assert call(vm.qmp, "core", "exit") == ("ok", b"")
    vm.wait_state("disconnected", 10)
    wait_for(lambda: vm.sysctl("dev.rvmrpc.0.state") == "left", 10, "the server's leave")
    vm.guest.check("devctl suspend rvmrpc0; devctl resume rvmrpc0; sleep 1")
    assert vm.sysctl("dev.rvmrpc.0.state") == "left"
    location = vm.location()
    vm.guest.check("devctl detach rvmrpc0")
    vm.guest.check(f"devctl attach {location}")
    vm.wait_state("connected", 20)
    works(vm)


@case("savevm and loadvm: the driver says hello again by itself", timeout=180)
def snapshot():
    """In every way of waiting."""
    needed()
    disk = pathlib.Path(TMP.name) / "state.qcow2"
    subprocess.run([QEMU_IMG, "create", "-q", "-f", "qcow2", disk, "1G"], check=True)
    with KIND[0](extra=("-drive", f"file={disk},if=none,id=state"), **KIND[0].saves) as vm:
        for spin_us, idle_us in ((0, 0), (200, 50), (0, -1)):
            set_waits(vm, spin_us, idle_us)
            works(vm)
            assert not vm.qmp.hmp("savevm one", timeout=60)
            works(vm)
            epoch = vm.query().get("epoch")
            assert not vm.qmp.hmp("loadvm one", timeout=60)
            wait_connected(vm, epoch, 20)
            works(vm)


@case("system_reset: the guest boots again and registers anew", timeout=BOOT_TIMEOUT + 30)
def reset():
    """Whatever it was doing."""
    vm = guest()
    epoch = vm.query()["epoch"]
    vm.qmp.cmd("system_reset")
    # Of a stock QEMU's reset nobody is told before the next hello.
    assert call(vm.qmp, "echo", "echo", b"x")[0] in ("not-connected", "reset", "" if vm.tells_leave else "timed-out")
    vm.ready()
    assert vm.query()["epoch"] != epoch
    works(vm)


@case("a guest that reboots leaves first", timeout=2 * BOOT_TIMEOUT)
def reboot():
    """And registers when it is back."""
    vm = guest()
    vm.qmp.take_events()
    vm.guest.start("reboot")
    vm.read_console(rb"Copyright \(c\) 1992", BOOT_TIMEOUT)
    vm.qmp.wait_event("RESET", 10)
    if vm.tells_leave:
        assert "RVMRPC_DISCONNECTED" in [event["event"] for event in vm.qmp.events]
    vm.ready()
    works(vm)


@case("freeze: a guest that reboots thaws first", timeout=2 * BOOT_TIMEOUT)
def freeze_reboot():
    """The kernel has to write all back."""
    vm = guest()
    vm.guest.check("sysctl dev.rvmrpc.0.allow='default,freeze.*'")
    assert freeze_state(vm, "freeze", struct.pack("<II", 600000, 0))[0] == 2
    vm.guest.start("reboot -q")
    vm.read_console(rb"Copyright \(c\) 1992", BOOT_TIMEOUT)
    vm.ready()
    works(vm)


@case("without the hypercall gate all of it works", timeout=BOOT_TIMEOUT + 60)
def doorbell():
    """As on a host with a stock KVM, with one CPU."""
    vm = guest(smp=1, **({"device_opts": "hypercall=off"} if KIND[0].has_gate else {}))
    assert vm.sysctl("dev.rvmrpc.0.gate") == ("doorbell" if vm.has_gate else "none")
    assert vm.sysctl("dev.rvmrpc.0.wait") == "spin-then-interrupt"
    for i in range(500):
        data = i.to_bytes(4, "little")
        assert call(vm.qmp, "echo", "echo", data) == ("ok", data)
    vm.load_test_module()
    idents = [vm.qmp.send("guest-kernel-call", call_args("test", "sleep", ms(500), 5000))
              for _ in range(3)]
    for ident in idents:
        assert vm.qmp.recv(ident)["status"] == "ok"
    assert vm.qmp.cmd("guest-meminfo")["os"] == "freebsd"


@case("one CPU of Intel's, always in VMLP", timeout=BOOT_TIMEOUT + 60)
def one_cpu():
    """The guest's own work goes on; the hypercall is VMCALL."""
    vm = guest(smp=1, cpu="max,vendor=GenuineIntel")
    assert vm.qmp.cmd("guest-cpuinfo")["cpus"][0]["vendor"] == "GenuineIntel"
    needs_vmlp(vm)
    set_waits(vm, idle_us=-1)
    for i in range(300):
        data = i.to_bytes(4, "little")
        assert call(vm.qmp, "echo", "echo", data) == ("ok", data)
    start = time.monotonic()
    for _ in range(10):
        vm.sysctl("kern.ostype")
    assert time.monotonic() - start < 5


@case("control.poweroff has init(8) shut the guest down", timeout=BOOT_TIMEOUT)
def poweroff():
    """The last case: it ends the VM."""
    vm = guest(smp=1, cpu="max,vendor=GenuineIntel")
    vm.guest.check("sysctl dev.rvmrpc.0.allow='default,control.*'")
    assert call(vm.qmp, "control", "poweroff", bytes(8)) == ("ok", b"")
    assert vm.qmp.wait_event("SHUTDOWN", timeout=120)["data"]["guest"]


if __name__ == "__main__":
    main(guests=bool(IMAGE or KERNEL))
