#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""rvmrpc_host.ko on Debian's kernels, beside Debian's QEMU and KVM: clients in L1's kernel."""
import json
import os
import re
import secrets
import time

from hosts import StockL1, StockL2, total

from harness import BUILD, case, comment, driver_file, insmod, main, shared, wait_for

SERIES = ("6.12", "6.1")
FUZZ_SECONDS = int(os.environ.get("RVMRPC_FUZZ_S", "10"))
# Calls, 50 ms apart, while the module takes over, and those of them that end before the driver has said hello: 5 s of
# them, for a busy host.
PINGS = 600
LOST_MAX = 100
UUID = "52564d52-0000-4000-9000-000000000001"


class HostL1(StockL1):
    """A host of a series, with the module: /host has it and its clients."""

    def __init__(self, series="6.12"):
        self.mounts = {**StockL1.mounts, "host": (BUILD / "host" / series, True)}
        super().__init__(series=series)

    def boot(self, timeout=240.0):
        super().boot(timeout)
        self.guest.check("insmod /host/rvmrpc_host.ko")
        return self

    def client(self, name, words=""):
        """Loads a client and removes it; (whether it loaded, what it printed)."""
        self.guest.check("dmesg -c >/dev/null")
        code, text = self.guest.run(f"insmod /host/{name}.ko {words} && rmmod {name}", timeout=60)
        return code == 0, text + self.guest.check("dmesg")


def host(series):
    """The L1 of all cases of a series."""
    return shared(HostL1, series=series)


def guest(series):
    """Its guest, with module test."""
    vm = shared(StockL2, l1=host(series), append="rvmrpc.allow=default,test.*")
    if vm.guest.run("test -d /sys/module/rvmrpc_test_mod")[0]:
        insmod(vm, "rvmrpc_test_mod")
        wait_for(lambda: vm.query()["state"] == "connected", 20, "the driver", interval=0.2)
    return vm


CASES = []


def each(name, **options):
    """A case for each kernel of L1; all of the one before those of the next."""
    def register(thing):
        CASES.append((name, thing, options))
        return thing
    return register


@each("KVM is Debian's, rvmrpcd has given the window to the module", timeout=240)
def owner(series):
    """And the tools work as before."""
    vm = guest(series)
    assert vm.l1.guest.check("uname -r").startswith(series)
    info = vm.query()
    assert (info["state"], info["proxy"]) == ("connected", "kernel"), info
    assert vm.json("meminfo", "web")["total"] == total(vm)
    text = vm.ok("ping", "-c", "50", "-i", "0.01", "web")
    assert "50 calls" in text, text
    comment(text.strip().splitlines()[-1])


@each("the paper's figure 4: an echo client in the host's kernel")
def echo(series):
    """By uuid, and as the only VM."""
    l1 = guest(series).l1
    for words in ("", f"uuid={UUID}", "message=again"):
        ok, text = l1.client("rvmrpc_echo_client", words)
        assert ok and "echo back: " + (words[8:] if "message" in words else "Hello from Host") in text, text


@each("/proc/rvmrpc: meminfo is the guest's own text, info has its uuid and pid")
def proc(series):
    """Of the paper's section 6."""
    vm = guest(series)
    shell = vm.l1.guest
    shell.check("insmod /host/rvmrpc_proc.ko")
    try:
        kib = int(re.search(r"MemTotal: +(\d+) kB", shell.check(f"cat /proc/rvmrpc/{UUID}/meminfo"))[1])
        assert kib * 1024 == total(vm)
        info = shell.check(f"cat /proc/rvmrpc/{UUID}/info")
        assert re.search(rf"^pid: +{vm.process.pid}$", info, re.M), info
        assert re.search(r"^connected: +yes$", info, re.M), info
        shell.check(f"echo 1 >/proc/rvmrpc/{UUID}/drop_caches")
    finally:
        shell.check("rmmod rvmrpc_proc")


@each("16 threads of the kernel at once, of small and of large calls: each gets its own answer", timeout=120)
def many(series):
    """More than there are slots."""
    l1 = guest(series).l1
    for words in ("threads=16 calls=100 size=256", "threads=6 calls=20 size=4096"):
        ok, text = l1.client("rvmrpc_test_client", words)
        assert ok and re.search(r"wrong 0 failed 0", text), text


@each("calls without copies, in one slot")
def held(series):
    """Begin, 100 times run, end."""
    ok, text = guest(series).l1.client("rvmrpc_test_client", "threads=1 calls=1 held=100 size=4096")
    assert ok and "held 100 of 100" in text, text


@each("what a guest tells comes to clients in the host's kernel, and by rvmrpcd to the command")
def events(series):
    """A notifier prints each; both count the same."""
    vm = guest(series)
    shell = vm.l1.guest
    shell.check("insmod /host/rvmrpc_test_client.ko events=1; dmesg -c >/dev/null")
    vm.l1.rvmrpc_begin(vm.number, "events", "-n", 1, "-t", 20000, "web")
    told = 0
    # It does not say when it has begun to listen.
    while shell.run("test -s /tmp/command.rc")[0]:
        vm.guest.check("echo slow > /sys/module/rvmrpc_test_mod/parameters/event; sleep 0.3")
        told += 1
        assert told < 40, "not heard"
    text = vm.l1.rvmrpc_end(20)
    assert re.search(r"^\S+ module 0x101, kind 7: slow$", text, re.M), text
    wait_for(lambda: vm.query()["events"] == told, 20, "all of them")

    def seen():
        return [int(number) for number in re.findall(
            r"event (\d+) of web: module 0x101, kind 7, missed 0, \"\\001\\002\\003\"", shell.check("dmesg"))]
    # A work queue tells them.
    wait_for(lambda: len(seen()) >= told, 20, "all of them, told to a notifier")
    shell.check("rmmod rvmrpc_test_client")
    assert seen() == list(range(1, told + 1)), (told, seen())


@each("a deadline ends a call, and the next works")
def deadline(series):
    """Though its procedure sleeps on."""
    l1 = guest(series).l1
    # The best of three: the host's own clock looks at it, and may be late for what else this machine does.
    for _ in range(3):
        ok, text = l1.client("rvmrpc_test_client", "threads=1 calls=1 sleep_ms=3000 timeout_ms=300 keep=1")
        ms = int(re.search(r"sleeper -110 after (\d+) ms", text)[1])
        comment(f"{ms} ms")
        assert ok and 300 <= ms, text
        if ms < 1500:
            break
    assert ms < 1500, text
    assert l1.client("rvmrpc_echo_client")[0]


def in_flight(l1):
    """Calls of the VM that the module has."""
    return next(vm["in_flight"] for vm in json.loads(l1.guest.check("/clients/vms")) if vm["name"] == "web")


def call_sleeper(l1):
    """A client in the kernel whose one call would take nearly a minute, and has begun; /tmp/caller has its PID."""
    l1.guest.check("(insmod /host/rvmrpc_test_client.ko threads=1 calls=0 sleep_ms=50000 timeout_ms=60000 "
                   "</dev/null >/dev/null 2>&1 & echo $! >/tmp/caller)")
    wait_for(lambda: in_flight(l1), 20, "the call", interval=0.1)


@each("a caller that is killed goes at once")
def killed(series):
    """In the middle of a call that would take a minute."""
    l1 = guest(series).l1
    shell = l1.guest
    call_sleeper(l1)
    start = time.monotonic()
    shell.check("kill -9 $(cat /tmp/caller); while test -d /proc/$(cat /tmp/caller); do usleep 10000; done", 30)
    seconds = time.monotonic() - start
    comment(f"{seconds:.2f} s")
    # Of 50; the shell, and a busy machine, have their part in it.
    assert seconds < 10
    # Whose init function ended so.
    assert "sleeper -4 " in shell.check("dmesg | grep rvmrpc_test_client: | tail -n 1")
    assert l1.client("rvmrpc_echo_client")[0]


@each("a call under way does not keep the host from being suspended", timeout=120)
def suspends(series):
    """As far as the freezer, by the kernel's own test."""
    l1 = guest(series).l1
    shell = l1.guest
    call_sleeper(l1)
    # Whoever cannot be frozen makes it fail after 20 s.
    shell.check("echo freezer >/sys/power/pm_test && echo freeze >/sys/power/state", 60)
    shell.check("kill -9 $(cat /tmp/caller); while test -d /proc/$(cat /tmp/caller); do usleep 10000; done", 20)


def vmm_case(name, title):
    """A case of the program vmm_files."""
    @each(title, timeout=120)
    def run(series):
        host(series).guest.check(f"/clients/vmm_files {name}", 70)
    run.__doc__ = f"vmm_files {name}."


vmm_case("refused", "attach: what is wrong is refused, and leaves nothing behind")
vmm_case("owners", "attach: one owner of a window, one VM of a uuid")
vmm_case("calls", "calls of a VMM whose guest is not there")
vmm_case("hostile", "a window that is scribbled over, and gone; one eventfd for both ways")
vmm_case("child", "a VMM that ends, and whose child keeps the file")
vmm_case("limits", "limits of memory and windows; nobody may attach")


vmm_case("torn", "a window whose pages are cut out of its file: the VMM is asked to attach anew")


@each("files at random, from several threads: the kernel stays well, and serves", timeout=120 + FUZZ_SECONDS)
def fuzz(series):
    """fuzz_files; RVMRPC_FUZZ_S has it take longer."""
    l1 = host(series)
    seed = secrets.randbits(63) | 1
    comment(f"fuzz_files {FUZZ_SECONDS} {seed}")
    said = l1.guest.check(f"/clients/fuzz_files {FUZZ_SECONDS} {seed}", 90 + FUZZ_SECONDS).strip()
    comment(said)
    counts = {words: int(number) for number, words in (part.split(" ", 1) for part in said.split(", "))}
    # A call that is cancelled in time takes luck: a VM that is connected, and a guest that has not answered yet.
    assert counts.pop("cancelled") >= 0 and len(counts) == 9 and all(counts.values()), counts
    assert not l1.complaints_now()


def becomes(vm, owner, epoch):
    """Waits until another owner has served the driver's hello."""
    wait_for(lambda: vm.query().get("proxy") == owner, 20, f"{owner} as owner", interval=0.1)
    wait_for(lambda: vm.query()["state"] == "connected", 20, "the driver", interval=0.2)
    # The driver reads the answer to its hello when it has the CPU.
    wait_for(lambda: driver_file(vm, "epoch") != epoch, 20, "the driver's own epoch", interval=0.2)
    assert vm.json("meminfo", "web")["total"] == total(vm)


@each("a client's notifier that takes its time holds up no VMM", timeout=120)
def slow_notifier(series):
    """vmm_files notices."""
    l1 = host(series)
    l1.guest.check("insmod /host/rvmrpc_test_client.ko slow_ms=3000")
    l1.guest.check("/clients/vmm_files notices", 40)
    l1.guest.check("rmmod rvmrpc_test_client", 40)


@each("the module stays while a VMM uses it; detach under load: calls end, rvmrpcd goes on; the next module takes over",
      timeout=480)
def detach(series):
    """Which is loaded while a client of rvmrpcd calls on."""
    vm = guest(series)
    shell = vm.l1.guest
    assert shell.run("rmmod rvmrpc_host")[0], "the module went"
    epoch = driver_file(vm, "epoch")
    shell.check("(insmod /host/rvmrpc_test_client.ko threads=8 calls=30000 keep=1 </dev/null >/dev/null 2>&1 & "
                "echo $! >/tmp/load)")
    wait_for(lambda: in_flight(vm.l1), 20, "calls")
    time.sleep(1)
    shell.check("echo 1 >/sys/module/rvmrpc_host/parameters/detach")
    becomes(vm, "daemon", epoch)
    # Calls of a client that goes on for ever end with a status, and it can be killed by its own end.
    shell.check("while test -d /proc/$(cat /tmp/load); do usleep 100000; done", 120)
    epoch = driver_file(vm, "epoch")
    time.sleep(3)
    assert (vm.query()["proxy"], driver_file(vm, "epoch")) == ("daemon", epoch), "it refuses, and is not asked"
    shell.check("rmmod rvmrpc_test_client; rmmod rvmrpc_host")
    vm.l1.rvmrpc_begin(vm.number, "ping", "-c", PINGS, "-i", 0.05, "web")
    shell.check("insmod /host/rvmrpc_host.ko")
    becomes(vm, "kernel", epoch)
    assert shell.run("test -s /tmp/command.rc")[0], "the client ended before"
    text = vm.l1.rvmrpc_end(180)
    sent, answered = map(int, re.search(r"(\d+) calls, (\d+) answered", text).groups())
    assert sent == PINGS and PINGS - answered < LOST_MAX, text[-2000:]
    ok, text = vm.l1.client("rvmrpc_test_client", "threads=8 calls=100")
    assert ok and re.search(r"wrong 0 failed 0", text), text
    comment(f"{answered} of {sent} answered; " + shell.check("dmesg | grep rvmrpc_test_client: | tail -n 1").strip())


# The last: it asks rvmrpcd, too.
vmm_case("detach", "the module asks for its files")

for kernel in SERIES:
    for title, function, more in CASES:
        case(f"{kernel}: {title}", series=kernel, **more)(function)

if __name__ == "__main__":
    main()
