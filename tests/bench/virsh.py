# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest of a real libvirtd, for the rows of virsh.

The daemon and its domain are those of tests/libvirt, with one vCPU.
"""
import importlib.util
import json
import os
import pathlib
import shlex
import shutil
import types
import xml.etree.ElementTree as ET

SOURCE = pathlib.Path(__file__).resolve().parents[1] / "libvirt" / "libvirt.py"


def _tests_libvirt():
    spec = importlib.util.spec_from_file_location("rvmrpc_tests_libvirt", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Domain:
    """For a row it is a VM: .process.pid and .query() are there."""

    def __init__(self):
        tests = _tests_libvirt()

        class OneCPU(tests.Libvirt):
            """The domain of the tests has two."""

            def domain_xml(self):
                root = ET.fromstring(super().domain_xml())
                root.find("vcpu").text = "1"
                return ET.tostring(root, encoding="unicode")

        self.libvirt = OneCPU()
        pid = pathlib.Path(self.libvirt.dir.name, "run-libvirt", "qemu", "web1.pid")
        self.process = types.SimpleNamespace(pid=int(pid.read_text(encoding="ascii")))

    def command(self, name):
        """A command line that starts virsh and has it pass a QMP command on."""
        request = json.dumps({"execute": name})
        return "exec " + shlex.join(self.libvirt.inside(
            "virsh", "-q", "-c", "qemu:///system", "qemu-monitor-command", "web1", request))

    def query(self):
        """The answer of query-rvmrpc."""
        return self.libvirt.monitor("query-rvmrpc")

    def close(self):
        """Ends the domain and the daemon."""
        self.libvirt.close()


def domain():
    """One, or None where no libvirtd can run."""
    if os.geteuid() or not os.path.exists("/usr/sbin/libvirtd") or not shutil.which("virsh"):
        return None
    return Domain()
