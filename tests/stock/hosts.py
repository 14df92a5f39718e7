# SPDX-License-Identifier: GPL-2.0-or-later
"""A host (L1) with Debian's own KVM, and in it Debian's own QEMUs beside rvmrpcd."""
import json
import pathlib
import re
import shlex
import sys

from stand import PATIENT_MS, TOOLS, UUID, write_config

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "nested"))

# pylint: disable=wrong-import-position
from levels import L1, L2, MOUNTS  # noqa: E402

from harness import BUILD, TOP, wait_for  # noqa: E402

NAMES = ("web", "db")
COMMAND = "LD_LIBRARY_PATH=/tools /tools/rvmrpc"


def unit_capabilities():
    """The mask of those that the daemon's unit leaves it."""
    unit = (TOP / "host-tools/rvmrpcd/rvmrpcd.service").read_text(encoding="ascii")
    names, = re.findall(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
    header = pathlib.Path("/usr/include/linux/capability.h").read_text(encoding="ascii")
    numbers = {name: int(number) for name, number in re.findall(r"^#define (CAP_\w+)\s+(\d+)$", header, re.MULTILINE)}
    return sum(1 << numbers[name] for name in names.split())


class StockL1(L1):
    """A host where nothing but our tools is ours. In it: /qemu-7.2, /qemu-10.0, /tools."""

    mounts = {**MOUNTS, "tools": (TOOLS, True), "qemu-7.2": (BUILD / "nested" / "qemu-7.2", True),
              "qemu-10.0": (BUILD / "qemu-10.0", True)}

    def __init__(self, **options):
        super().__init__("stock", **options)
        self.daemons = {}

    def start_daemon(self, folder, outside):
        """Starts it, whatever of it ran before."""
        self.guest.check(
            f"(cd {folder}; sh -c 'echo $$ >pid; exec /clients/bounded {unit_capabilities():x} env LD_LIBRARY_PATH=/tools /tools/rvmrpcd --config "
            f"{folder}/rvmrpcd.conf' </dev/null >>/share/{outside.name}/log 2>&1 &)")
        wait_for(lambda: self.guest.run(f"test -S {folder}/sockets/{NAMES[0]}.sock")[0] == 0, 60,
                 f"{folder} in L1", interval=0.2)

    def daemon(self, number=0):
        """The folder, in L1, of a daemon, which it starts when there is none."""
        folder = f"/tmp/rvmrpcd-{number}"
        if number not in self.daemons:
            outside = self.share / f"rvmrpcd-{number}"
            outside.mkdir()
            write_config(outside, {name: UUID.format(i) for i, name in enumerate(NAMES, 1)}, inner=folder)
            # No sockets on a mounted folder.
            self.guest.check(f"cp -r /share/{outside.name} {folder}")
            self.daemons[number] = outside
            self.start_daemon(folder, outside)
        return folder

    @staticmethod
    def _command(number, words):
        return f"RVMRPC_PATH=/tmp/rvmrpcd-{number}/sockets {COMMAND} {shlex.join(map(str, words))}"

    def rvmrpc(self, number, *words):
        """(exit status, output) of the command, for the VMs of a daemon."""
        return self.guest.run(self._command(number, words), timeout=60)

    def rvmrpc_begin(self, number, *words):
        """Starts the command; one at a time."""
        self.guest.check(f"rm -f /tmp/command.*; ({self._command(number, words)} >/tmp/command.out 2>&1; "
                         "echo $? >/tmp/command.rc) >/dev/null 2>&1 &")

    def rvmrpc_end(self, timeout=60):
        """Waits for its end; its output."""
        wait_for(lambda: self.guest.run("test -s /tmp/command.rc")[0] == 0, timeout, "the command's end", interval=0.2)
        return self.guest.check("cat /tmp/command.out")

    def report(self, _error=None):
        """With the daemons' logs."""
        super().report()
        for outside in self.daemons.values():
            for line in (outside / "log").read_text(errors="replace").splitlines()[-20:]:
                print(f"# {outside.name}: {line}")


class StockL2(L2):
    """A guest of Debian's QEMU and KVM, with a daemon's window."""

    def __init__(self, l1, slot=0, *, name="web", version="7.2", number=0, master=False, extra=(), **options):
        self.name, self.version, self.number, self.master = name, version, number, master
        self.PROGRAM = (f"/qemu-{version}/qemu-system-x86_64",)    # pylint: disable=invalid-name
        extra = ["-name", f"guest={name},debug-threads=on", "-uuid", UUID.format(NAMES.index(name) + 1), *extra]
        super().__init__(l1, slot, extra=extra, **{"memory": "192M", **options})

    def _device_args(self):
        folder = self.l1.daemon(self.number)
        return ["-chardev", f"socket,id=iv,path={folder}/ivshmem/{self.name}.ivshmem",
                "-device", "ivshmem-doorbell,vectors=1,chardev=iv" + (",master=on" if self.master else "")]

    def ok(self, *words):
        """The command's output, however long the guest takes."""
        code, text = self.l1.rvmrpc(self.number, "-t", PATIENT_MS, *words)
        assert code == 0, (words, code, text)
        return text

    def json(self, *words):
        """As JSON."""
        return json.loads(self.ok(*words, "--json"))

    def query(self):
        """As the command has it."""
        code, text = self.l1.rvmrpc(self.number, "-t", PATIENT_MS, "info", self.name, "--json")
        return json.loads(text) if code == 0 else {"state": text.strip()}


def total(vm):
    """MemTotal, by the guest itself."""
    return int(vm.guest.check("awk '/MemTotal/ { print $2 }' /proc/meminfo")) * 1024
