#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A real libvirtd with a domain on our emulator.

The daemon runs as root in a mount namespace of its own, where its folders are
empty ones of the test: this machine's libvirt, if any, is not touched. The
domain is that of docs/libvirt.xml, but for what cannot be had here.
"""
import base64
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / name)
                for name in ("vm", "clients")]

# pylint: disable=wrong-import-position
from harness import BUILD, TOP, Skip, case, comment, main, wait_for  # noqa: E402
from harness.paths import QEMU, kernel_files  # noqa: E402
from harness.vm import CMDLINE, COMPLAINT  # noqa: E402
from tools import COMPLAINTS, RVMRPC, environment  # noqa: E402

NS = "{http://libvirt.org/schemas/domain/qemu/1.0}"
UUID = "c0ffee00-1234-4321-8888-0123456789ab"
FOLDERS = ("/etc/libvirt", "/run/libvirt", "/var/lib/libvirt", "/var/log/libvirt",
           "/var/cache/libvirt", "/run/rvmrpc")
# The daemon may have no cgroups, no AppArmor and no other user here.
QEMU_CONF = """user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
remember_owner = 0
"""
DAEMON = {}


class Libvirt:
    """libvirtd in its mount namespace, with the domain running."""

    def __init__(self):
        if os.geteuid():
            DAEMON.clear()
            raise Skip("needs root for a libvirtd of its own")
        self.dir = tempfile.TemporaryDirectory(prefix="rvmrpc-libvirt-")
        path = pathlib.Path(self.dir.name)
        lines = ["set -e", "umask 022"]
        for folder in FOLDERS:
            own = path / folder.strip("/").replace("/", "-")
            own.mkdir()
            # Mount points that the machine lacks; /run is the namespace's too.
            lines.append(f"mkdir -p {folder} && mount --bind {own} {folder}")
        # The user that Debian's libvirt wants to exist, though ours runs nothing as it.
        for name, line in (("passwd", "libvirt-qemu:x:64055:64055::/:/bin/false\n"),
                           ("group", "libvirt-qemu:x:64055:\nkvm:x:64056:\n")):
            text = pathlib.Path("/etc", name).read_text(encoding="utf-8")
            (path / name).write_text(text if "libvirt-qemu:" in text else text + line,
                                     encoding="utf-8")
            lines.append(f"mount --bind {path / name} /etc/{name}")
        (path / "etc-libvirt" / "qemu.conf").write_text(QEMU_CONF, encoding="ascii")
        (path / "etc-libvirt" / "libvirtd.conf").write_text(
            'auth_unix_rw = "none"\nlog_outputs = "3:stderr"\n', encoding="ascii")
        lines.append("exec /usr/sbin/libvirtd --timeout 0 2>$1")
        self.log = path / "libvirtd.log"
        self.console = path / "console.log"
        self.daemon = subprocess.Popen(  # pylint: disable=consider-using-with
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines), "sh",
             str(self.log)], stdout=subprocess.DEVNULL)
        try:
            wait_for(self.answers, 60, "libvirtd", interval=0.3)
            self.define()
        except BaseException:
            self.close()
            raise

    def inside(self, *command):
        """A command line in the namespace."""
        return ["nsenter", "-t", str(self.daemon.pid), "-m", *map(str, command)]

    def run(self, *command, check=True, timeout=60):
        """Runs it there; its output."""
        result = subprocess.run(self.inside(*command), stdout=subprocess.PIPE, text=True,
                                stderr=subprocess.PIPE, timeout=timeout, check=False,
                                env=environment(LIBVIRT_DEFAULT_URI="qemu:///system"))
        for word in COMPLAINTS[:4]:
            assert word not in result.stderr, result
        assert not check or result.returncode == 0, (command, result)
        return result if not check else result.stdout

    def answers(self):
        """The daemon is there."""
        assert self.daemon.poll() is None, self.log.read_text(errors="replace")
        return self.run("virsh", "-q", "list", check=False).returncode == 0

    def virsh(self, *args, **more):
        """virsh's output."""
        return self.run("virsh", "-q", *args, **more)

    def rvmrpc(self, *args, **more):
        """Our command's output."""
        return self.run(RVMRPC, *args, **more)

    def monitor(self, name, **arguments):
        """The answer of a QMP command through libvirt."""
        request = {"execute": name}
        if arguments:
            request["arguments"] = arguments
        return json.loads(self.virsh("qemu-monitor-command", "web1", json.dumps(request)))["return"]

    def domain_xml(self):
        """docs/libvirt.xml for a machine without KVM and without an image."""
        for prefix, uri in (("qemu", NS[1:-1]),):
            ET.register_namespace(prefix, uri)
        root = ET.parse(TOP / "docs" / "libvirt.xml").getroot()
        vmlinuz, initramfs = kernel_files("6.12")
        root.set("type", "qemu")
        ET.SubElement(root, "uuid").text = UUID
        root.find("memory").text = "192"
        root.find("os/type").set("machine", "pc")
        for name, text in (("kernel", vmlinuz), ("initrd", initramfs), ("cmdline", CMDLINE)):
            ET.SubElement(root.find("os"), name).text = os.path.realpath(text) \
                if name != "cmdline" else text
        root.remove(root.find("cpu"))
        ET.SubElement(root, "cpu", mode="maximum")
        root.find("devices/emulator").text = str(QEMU)
        root.find("devices").remove(root.find("devices/disk"))
        root.find("devices").remove(root.find("devices/console"))
        serial = ET.SubElement(root.find("devices"), "serial", type="file")
        ET.SubElement(serial, "source", path=str(self.console))
        assert root.find(NS + "commandline") is not None
        return ET.tostring(root, encoding="unicode")

    def define(self):
        """Defines and starts the domain, waits for its driver."""
        path = pathlib.Path(self.dir.name, "domain.xml")
        path.write_text(self.domain_xml(), encoding="utf-8")
        self.virsh("define", path)
        self.virsh("start", "web1", timeout=120)
        wait_for(self.connected, 200, "the guest's driver", interval=0.5)

    def connected(self):
        """The guest's driver is registered; QEMU's own words when it has ended."""
        state = self.virsh("domstate", "--reason", "web1").strip()
        log = pathlib.Path(self.dir.name, "var-log-libvirt", "qemu", "web1.log")
        assert state.startswith("running"), f"{state}\n{log.read_text(errors='replace')[-3000:]}"
        return self.monitor("query-rvmrpc")["state"] == "connected"

    def close(self):
        """Ends the domain and the daemon."""
        if self.daemon.poll() is None:
            self.run("virsh", "-q", "destroy", "web1", check=False)
            self.daemon.terminate()
            self.daemon.wait(20)
        self.dir.cleanup()


def libvirt():
    """The one that the cases share."""
    if "it" not in DAEMON:
        DAEMON["it"] = None
        DAEMON["it"] = Libvirt()
    assert DAEMON["it"], "libvirtd did not start, see the first case"
    return DAEMON["it"]


@case("a domain on our emulator starts, as docs/libvirt.xml says", timeout=400)
def start():
    """And libvirt takes it for what it is: tainted by a custom argument."""
    lv = libvirt()
    assert "running" in lv.virsh("domstate", "web1")
    assert lv.virsh("domuuid", "web1").strip() == UUID
    comment(lv.run("virsh", "--version").strip())


@case("virsh qemu-monitor-command: guest-meminfo gives the guest's values")
def meminfo():
    """Total is what the guest's own text says."""
    mem = libvirt().monitor("guest-meminfo", raw=True)
    total = int(re.search(r"MemTotal: +(\d+) kB", mem["raw"]).group(1)) * 1024
    assert mem["total"] == total and 100 << 20 < total < 192 << 20, mem
    assert 0 < mem["available"] < total


@case("virsh qemu-monitor-command: guest-kernel-call and the other commands")
def commands():
    """Each answers through libvirt."""
    lv = libvirt()
    data = base64.b64encode(b"through libvirt").decode()
    assert lv.monitor("guest-kernel-call", module="echo", procedure="echo",
                      data=data)["data"] == data
    assert set(lv.monitor("guest-loadavg")) >= {"load1m", "load5m", "load15m"}
    assert lv.monitor("guest-cpuinfo")["online"] == 2
    assert lv.monitor("guest-osinfo")["release"].startswith("6.12")
    assert "freed" in lv.monitor("guest-drop-caches", mode="all")


@case("virsh qemu-monitor-command --hmp 'info rvmrpc'")
def hmp():
    """The readable form."""
    text = libvirt().virsh("qemu-monitor-command", "web1", "--hmp", "info rvmrpc")
    assert text.startswith("state: connected"), text
    assert "guest: linux 6.12" in text and "sysinfo(5)" in text, text


@case("rvmrpc list finds the domain by its name, by the socket")
def listing():
    """With libvirt's name and UUID."""
    vms = json.loads(libvirt().rvmrpc("list", "--json"))
    mine = [vm for vm in vms if vm.get("uuid") == UUID]
    assert len(mine) == 1, vms
    assert mine[0]["name"] == "web1" and mine[0]["way"] == "socket", mine
    assert mine[0]["socket"] == "/run/rvmrpc/web1.sock" and mine[0]["state"] == "connected", mine


@case("rvmrpc meminfo by libvirt's name and UUID: what libvirt's monitor says")
def by_name():
    """To the byte."""
    lv = libvirt()
    total = lv.monitor("guest-meminfo")["total"]
    for what in ("web1", UUID):
        assert json.loads(lv.rvmrpc("meminfo", what, "--json"))["total"] == total


@case("rvmrpc does not touch the domain's monitor")
def no_monitor():
    """libvirt numbers its commands, and a stopped libvirtd answers nobody."""
    lv = libvirt()

    def number():
        reply = lv.virsh("qemu-monitor-command", "web1", '{"execute": "query-name"}')
        return int(re.search(r'"id":"libvirt-(\d+)"', reply).group(1))

    calls = lv.monitor("query-rvmrpc")["stats"]["calls"]
    before = number()
    lv.daemon.send_signal(signal.SIGSTOP)
    try:
        start_time = time.monotonic()
        assert json.loads(lv.rvmrpc("meminfo", "web1", "--json"))["total"] > 0
        assert any(vm["name"] == "web1" for vm in json.loads(lv.rvmrpc("list", "--json")))
        took = time.monotonic() - start_time
        assert took < 8, took
    finally:
        lv.daemon.send_signal(signal.SIGCONT)
    assert number() == before + 1, "a command went through the monitor"
    assert lv.monitor("query-rvmrpc")["stats"]["calls"] == calls + 1


@case("virsh suspend: STOPPED both ways; resume: answers again")
def suspend():
    """With the reason."""
    lv = libvirt()
    lv.virsh("suspend", "web1")
    result = lv.rvmrpc("meminfo", "web1", check=False)
    assert result.returncode == 7 and "web1: the VM is paused" in result.stderr, result
    reply = lv.monitor("guest-kernel-call", module="echo", procedure="echo")
    assert reply["status"] == "stopped", reply
    states = {vm["name"]: vm["state"] for vm in json.loads(lv.rvmrpc("list", "--json"))}
    assert states["web1"] == "paused", states
    lv.virsh("resume", "web1")
    assert json.loads(lv.rvmrpc("meminfo", "web1", "--json"))["total"] > 0


@case("permissions of the socket: what the domain's XML says")
def permissions():
    """0660, in the namespace's /run/rvmrpc."""
    assert libvirt().run("stat", "-c", "%a %F", "/run/rvmrpc/web1.sock").strip() == "660 socket"


@case("without a socket rvmrpc goes through libvirt", timeout=180)
def through_libvirt():
    """A second domain whose device has none."""
    lv = libvirt()
    text = lv.domain_xml().replace("<name>web1<", "<name>plain<").replace(
        UUID, UUID.replace("c0ffee00", "c0ffee01")).replace(
        "rvmrpc,socket=/run/rvmrpc/web1.sock,socket-mode=0660", "rvmrpc").replace(
        "console.log", "console2.log")
    path = pathlib.Path(lv.dir.name, "plain.xml")
    path.write_text(text, encoding="utf-8")
    lv.virsh("create", path, timeout=120)
    try:
        wait_for(lambda: lv.rvmrpc("meminfo", "plain", "-t", 5000, check=False).returncode == 0,
                 90, "the second guest", interval=1)
        info = json.loads(lv.rvmrpc("info", "plain", "--json", "-t", 5000))
        assert info["way"] == "libvirt" and info["state"] == "connected", info
        assert lv.rvmrpc("call", "plain", "echo", "echo", "hello", "-t", 5000) == "hello"
        result = lv.rvmrpc("call", "plain", "core", "exit", "-t", 5000, check=False)
        assert result.returncode == 8, result
    finally:
        lv.virsh("destroy", "plain")
    result = lv.rvmrpc("meminfo", "plain", check=False)
    assert result.returncode == 3 and "no VM plain" in result.stderr, result


STOCK_QEMU = pathlib.Path("/usr/bin/qemu-system-x86_64")


def shmem_xml(lv):
    """A domain of Debian's own QEMU with libvirt's own element, and nothing that libvirt does not know."""
    root = ET.fromstring(lv.domain_xml())
    root.remove(root.find(NS + "commandline"))
    root.find("name").text = "stock"
    root.find("uuid").text = UUID.replace("c0ffee00", "c0ffee02")
    devices = root.find("devices")
    devices.find("emulator").text = str(STOCK_QEMU)
    devices.find("serial/source").set("path", str(lv.console) + ".stock")
    shmem = ET.SubElement(devices, "shmem", name="rvmrpc")
    ET.SubElement(shmem, "model", type="ivshmem-doorbell")
    ET.SubElement(shmem, "server", path=f"{lv.dir.name}/stock.ivshmem")
    ET.SubElement(shmem, "msi", vectors="1", ioeventfd="on")
    return ET.tostring(root, encoding="unicode")


@case("libvirt's own <shmem> element, Debian's QEMU and rvmrpcd: not tainted", timeout=180)
def own_element():
    """The command finds it by libvirt's name."""
    lv = libvirt()
    folder = pathlib.Path(lv.dir.name)
    (folder / "rvmrpcd.conf").write_text(
        f"[daemon]\nivshmem-dir={folder}\nsocket-dir=/run/rvmrpc\nvm-dir={folder}/vms\n", encoding="ascii")
    (folder / "stock.xml").write_text(shmem_xml(lv), encoding="utf-8")
    with subprocess.Popen(lv.inside(BUILD / "host-tools" / "rvmrpcd-asan", "--config", folder / "rvmrpcd.conf",
                                    "--vm", "name=stock"), stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True) as daemon:
        try:
            wait_for(lambda: (folder / "stock.ivshmem").exists(), 20, "rvmrpcd's socket")
            lv.virsh("create", folder / "stock.xml", timeout=120)
            wait_for(lambda: lv.rvmrpc("meminfo", "stock", check=False).returncode == 0, 90, "the guest",
                     interval=0.5)
            assert json.loads(lv.rvmrpc("meminfo", "stock", "--json"))["total"] > 100 << 20
            taints = {name: re.findall(r"tainted: (.*)", lv.virsh("dominfo", name)) for name in ("stock", "web1")}
            comment(json.dumps(taints))
            # Both run as root here, which is the test's doing.
            assert taints["stock"] == [text for text in taints["web1"] if "custom" not in text], taints
            assert len(taints["stock"]) < len(taints["web1"]), taints
            lv.virsh("destroy", "stock")
        finally:
            daemon.send_signal(signal.SIGTERM)
            text = daemon.communicate(timeout=20)[1]
    assert not any(word in text for word in COMPLAINTS[:4]), text


@case("virsh reset and virsh destroy: the socket lives and dies with the VM", timeout=120)
def life():
    """Connected anew after a reset; no socket left at the end."""
    lv = libvirt()
    epoch = lv.monitor("query-rvmrpc")["epoch"]
    lv.virsh("reset", "web1")

    def again():
        info = lv.monitor("query-rvmrpc")
        return info["state"] == "connected" and info["epoch"] != epoch

    wait_for(again, 60, "another registration", interval=0.5)
    assert json.loads(lv.rvmrpc("meminfo", "web1", "--json"))["total"] > 0
    lv.virsh("destroy", "web1")
    result = lv.rvmrpc("meminfo", "web1", check=False)
    # libvirt knows the name, and that it does not run.
    assert result.returncode in (3, 4) and "web1" in result.stderr, result
    text = lv.console.read_text(errors="replace")
    assert not COMPLAINT.search(text), text[-3000:]


def cleanup():
    """The daemon ends with the tests."""
    if DAEMON.get("it"):
        DAEMON["it"].close()


if __name__ == "__main__":
    assert BUILD.exists()
    try:
        main(guests=False)
    finally:
        cleanup()
