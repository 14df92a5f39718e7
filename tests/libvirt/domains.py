# SPDX-License-Identifier: GPL-2.0-or-later
"""A real libvirtd of the tests' own, and domains for it.

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
           "/var/cache/libvirt", "/run/rvmrpc", "/run/rvmrpcd", "/etc/rvmrpcd", "/var/lib/rvmrpc")
# The daemon may have no cgroups, no AppArmor and no other user here.
QEMU_CONF = """user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
remember_owner = 0
"""

STOCK_QEMU = pathlib.Path("/usr/bin/qemu-system-x86_64")


class Libvirt:
    """libvirtd in its mount namespace, with the domain running unless it is not wanted."""

    def __init__(self, domain=True):
        if os.geteuid():
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
            if domain:
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


def stock_xml(lv):
    """A domain of Debian's own QEMU, and nothing that libvirt does not know."""
    root = ET.fromstring(lv.domain_xml())
    root.remove(root.find(NS + "commandline"))
    root.find("name").text = "stock"
    root.find("uuid").text = UUID.replace("c0ffee00", "c0ffee02")
    devices = root.find("devices")
    devices.find("emulator").text = str(STOCK_QEMU)
    devices.find("serial/source").set("path", str(lv.console) + ".stock")
    return ET.tostring(root, encoding="unicode")
