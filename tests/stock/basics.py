#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's own QEMUs, 7.2 and 10.0, with rvmrpcd: the command, the exporter, events."""
import re
import socket
import subprocess
import urllib.error
import urllib.request

from stand import PATIENT_MS, TOOLS, Load, Rvmrpcd, Served, StockVM, tools, wait_event

from harness import VM, case, comment, counters, insmod, main, ms, set_parameter, shared, wait_connected, wait_for
from harness.sock import SUBSCRIBE

VERSIONS = ("7.2", "10.0")
CORE, NULL = 0, 0
BIG = 2                         # test.big
NAMES = ("a", "b", "c")
WHO = 'domain="web"'


def guest(version):
    """The guest that cases share."""
    return shared(Served, version=version, memory="192M")


def each(name, **options):
    """A case for each QEMU."""
    def register(thing):
        for version in VERSIONS:
            case(f"{version}: {name}", version=version, **options)(thing)
        return thing
    return register


def total(vm):
    """MemTotal, by the guest itself."""
    return int(vm.guest.check("awk '/MemTotal/ { print $2 }' /proc/meminfo")) * 1024


@each("it is Debian's, and the device a plain ivshmem")
def stock(version):
    """Else the other cases show nothing."""
    vm = guest(version)
    assert vm.qmp.greeting["version"]["package"].startswith("Debian"), vm.qmp.greeting
    major = vm.qmp.greeting["version"]["qemu"]["major"]
    assert major == int(version.split(".", maxsplit=1)[0])
    assert vm.guest.check("cat /sys/bus/pci/drivers/rvmrpc/0*/device").strip() == "0x1110"


@each("meminfo, to the byte")
def meminfo(version):
    """As the guest has it."""
    vm = guest(version)
    mem = vm.daemon.json("meminfo", "web")
    assert mem["total"] == total(vm) and 0 < mem["available"] < mem["total"], mem


@each("list: name, uuid, QEMU's pid, state and guest")
def lists(version):
    """One VM, by its socket."""
    vm = guest(version)
    found, = vm.daemon.json("list")
    assert found["name"] == "web" and found["uuid"] == vm.daemon.uuids["web"], found
    assert found["state"] == "connected" and found["way"] == "socket", found
    assert found["release"] == vm.guest.check("uname -r").strip(), found
    assert found["pid"] == vm.process.pid, found


@each("watch --json, info and ping")
def others(version):
    """The columns of top, a line a second."""
    vm = guest(version)
    line = vm.daemon.ok("watch", "web", "--json", "-c", "1").json()
    assert line["state"] == "connected" and line["memory"]["total"] == total(vm), line
    info = vm.daemon.json("info", "web")
    assert {module["name"] for module in info["modules"]} >= {"core", "sysinfo", "echo"}, info
    assert "10 calls" in vm.daemon.ok("ping", "-c", "10", "-i", "0.01", "web").out
    echo = vm.daemon.ok("call", "web", "echo", "echo", "by name").out
    assert echo == "by name", echo


@case("a name is good for the list that told it: another module with its number is not called")
def replaced():
    """By a client of the socket that found the number, and by the command."""
    vm = guest("7.2")
    big = b"\0\1\2"
    set_parameter(vm, "allow", "default,test.*,other.*")
    insmod(vm, "rvmrpc_test_mod")
    with vm.daemon.client("web") as client:
        number, generation = client.modules()["test"]
        assert client.call(number, BIG, ms(3), generation=generation) == ("ok", big)
        wait_for(lambda: vm.query().get("list-generation") == generation, 20, "the generation in INFO")
        vm.guest.check("rmmod rvmrpc_test_mod")
        insmod(vm, "rvmrpc_test_mod", "name=other")
        assert client.call(number, BIG, ms(3), generation=generation) == ("version-mismatch", b"")
        assert client.call(number, BIG, ms(3)) == ("ok", big)
        number, generation = client.modules()["other"]
        assert client.call(number, BIG, ms(3), generation=generation) == ("ok", big)
    result = vm.daemon.rvmrpc("call", "web", "test", "big", "hex:03000000")
    assert result.status == 8 and "no such module" in result.err, result
    assert vm.daemon.ok("call", "web", "other", "big", "hex:03000000").out == big.decode()
    vm.guest.check("rmmod rvmrpc_test_mod")
    set_parameter(vm, "allow", "default")


def loaded_anew(vm, name):
    """The driver, then the test module of that name; (number, generation) of it."""
    epoch = vm.query()["epoch"]
    vm.guest.check("rmmod rvmrpc && modprobe rvmrpc")
    wait_connected(vm, epoch)
    set_parameter(vm, "allow", "default,test.*,other.*")
    insmod(vm, "rvmrpc_test_mod", f"name={name}")
    with vm.daemon.client("web") as client:
        return client.modules()[name]


@case("a name is not good for the next load of the driver, which came to its list by the same steps")
def driver_reloaded():
    """Else as many modules, others, have the same generation."""
    vm = guest("7.2")
    number, generation = loaded_anew(vm, "test")
    vm.guest.check("rmmod rvmrpc_test_mod")
    assert loaded_anew(vm, "other")[0] == number
    with vm.daemon.client("web") as client:
        assert client.call(number, BIG, ms(3), generation=generation) == ("version-mismatch", b"")
    vm.guest.check("rmmod rvmrpc_test_mod")
    set_parameter(vm, "allow", "default")


@each("the exporter shows it")
def exporter(version):
    """With its memory."""
    vm = guest(version)
    with Exporter(vm.daemon) as port:
        text = wait_for(lambda: scrape_up(port), 20, "a guest that is up", interval=0.5)
        found = re.search(rf"^rvmrpc_guest_memory_total_bytes{{.*{WHO}.*}} (\S+)$", text, re.M)
        assert found and int(float(found.group(1))) == total(vm), text


class Exporter:
    """The exporter for a daemon's VMs; its port."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.process = None

    def __enter__(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [TOOLS / "rvmrpc-exporter-asan", "-l", f"127.0.0.1:{port}"],
            env=tools.environment(self.daemon.sockets), stderr=subprocess.PIPE, text=True)
        wait_for(lambda: scrape(port), 20, "the exporter", interval=0.1)
        return port

    def __exit__(self, *_):
        self.process.terminate()
        _, err = self.process.communicate(timeout=20)
        assert not any(word in err for word in tools.COMPLAINTS), err


def scrape(port):
    """The exporter's text, None while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as reply:
            return reply.read().decode()
    except urllib.error.URLError:
        return None


def scrape_up(port):
    """A text with the guest up. One that a busy machine does not let answer within a scrape's second is not, for that
    scrape.
    """
    text = scrape(port)
    return text if text and re.search(rf"^rvmrpc_up{{.*{WHO}.*}} 1$", text, re.M) else None


@each("events of the driver that leaves and of the one that comes")
def events(version):
    """With the epoch that INFO has, too."""
    vm = guest(version)
    with vm.daemon.client("web") as c:
        epoch = c.query(SUBSCRIBE)["rvmrpc"]["epoch"]
        vm.guest.check("rmmod rvmrpc")
        assert wait_event(c, "RVMRPC_DISCONNECTED")["reason"] == "guest-exit"
        assert vm.daemon.json("list")[0]["state"] == "no-driver"
        assert tools.soon(2, lambda: vm.daemon.rvmrpc("meminfo", "web")).status != 0
        vm.guest.check("modprobe rvmrpc")
        come = wait_event(c, "RVMRPC_CONNECTED")
        info = wait_connected(vm, epoch)
        assert come["os"] == "linux" and come["epoch"] == info["epoch"] != epoch, (come, info)
        insmod(vm, "rvmrpc_test_mod")
        vm.guest.check("echo told > /sys/module/rvmrpc_test_mod/parameters/event; rmmod rvmrpc_test_mod")
        told = wait_event(c, "GUEST_KERNEL_EVENT")
        assert (told["type"], told["module"], told["text"], told["data"]) == ("other", 0x101, "told", "AQID"), told
        assert told["number"] == c.query()["rvmrpc"]["stats"]["events"] == 1, told
    assert vm.daemon.json("meminfo", "web")["total"] == total(vm)


@each("8 clients: each call is answered once")
def load(version):
    """By the driver's own count."""
    vm = guest(version)
    before = counters(vm)["calls"]
    with Load(vm.daemon, "web", module=CORE, procedure=NULL, timeout=PATIENT_MS) as l:
        l.wait_more(more=400)
    grown = counters(vm)["calls"] - before
    assert set(l.statuses) == {"ok"} and l.count("ok") == grown, (l.statuses, grown)
    comment(f"{l.statuses}, longest {l.longest * 1e3:.1f} ms")


@case("three VMs on one daemon: each answers for itself; one ends, another starts", timeout=240)
def three():
    """Of both QEMUs, and of different sizes."""
    daemon = Rvmrpcd(*NAMES)
    vms = {}
    with daemon:
        try:
            for number, name in enumerate(NAMES):
                vms[name] = StockVM(daemon, name, version=VERSIONS[number % 2],
                                    memory=f"{160 + 32 * number}M", append=tools.PATIENT)
                vms[name].start()
            for name, vm in vms.items():
                vm.wait_ready().wait_state()
                assert daemon.json("meminfo", name)["total"] == total(vm), name
            assert {vm["name"]: vm["state"] for vm in daemon.json("list")} == dict.fromkeys(
                NAMES, "connected")
            ends_and_starts(daemon, vms)
        finally:
            for vm in vms.values():
                vm.stop()


def ends_and_starts(daemon, vms):
    """One goes under load on another, and comes again."""
    boots = {name: boot_id(vms[name]) for name in ("a", "c")}
    with Load(daemon, "c", clients=4, timeout=PATIENT_MS) as load_c, daemon.client("b") as c:
        epoch = c.query(SUBSCRIBE)["rvmrpc"]["epoch"]
        vms["b"].process.kill()
        assert wait_event(c, "RVMRPC_DISCONNECTED")
        vms["b"].process.wait(10)
        vms["b"].stop()
        assert {vm["name"]: vm["state"] for vm in daemon.json("list")
                if vm["state"] == "connected"} == dict.fromkeys(("a", "c"), "connected")
        assert tools.soon(2, lambda: daemon.rvmrpc("meminfo", "b")).status != 0
        vms["b"] = StockVM(daemon, "b", version="7.2", memory="176M", append=tools.PATIENT).boot()
        assert daemon.query("b")["epoch"] != epoch
        assert daemon.json("meminfo", "b")["total"] == total(vms["b"])
        load_c.wait_more()
    assert set(load_c.statuses) == {"ok"}, load_c.statuses
    assert boots == {name: boot_id(vms[name]) for name in ("a", "c")}
    assert all(vm in VM.live for vm in vms.values())


def boot_id(vm):
    """Another after each boot."""
    return vm.guest.check("cat /proc/sys/kernel/random/boot_id").strip()


if __name__ == "__main__":
    main()
