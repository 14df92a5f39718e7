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
import os
import pathlib
import re
import shlex
import subprocess
import tempfile
import time

from harness import (VM, QMPError, Skip, call, call_args, case, main, ms, shared, wait_connected,
                     wait_for)
from harness.paths import QEMU

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
    assert {m["name"] for m in info["modules"]} >= {"core", "echo", "sysinfo", "reclaim", "sysctl"}
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


if __name__ == "__main__":
    main(guests=bool(IMAGE or KERNEL))
