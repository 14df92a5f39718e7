# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian systems with systemd as users have them: they boot from a disk under TCG, and their console is a shell.

Packages that they install are on the disk: they have no network.
"""
import pathlib
import re
import subprocess
import sys
import time

from roots import BUILD

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "stock"))

# pylint: disable=wrong-import-position
from harness import comment, wait_for  # noqa: E402
from harness.paths import connect_unix  # noqa: E402
from stand import QEMUS  # noqa: E402

# A shell on the console, and no service that nobody needs.
LOGIN = """[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 ttyS0 dumb
"""
# Where others use the processors, a boot takes ten minutes.
PATIENT = """[Manager]
DefaultTimeoutStartSec=30min
DefaultDeviceTimeoutSec=30min
"""
CMDLINE = ("root=/dev/vda rw console=ttyS0 mitigations=off no_timer_check quiet systemd.show_status=no "
           "udev.event_timeout=1800 "
           "systemd.mask=apt-daily.timer systemd.mask=apt-daily-upgrade.timer systemd.mask=e2scrub_reap.service")


class Story:
    """What the console says, and the host in between: build/logs/packages-NAME.log."""

    def __init__(self, name):
        self.path = BUILD / "logs" / f"packages-{name}.log"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("", encoding="ascii")

    def tell(self, text):
        """A line of the host's, in the test's output and in the story."""
        comment(text)
        with open(self.path, "a", encoding="utf-8") as log:
            log.write(f"\n--- host, {time.strftime('%X')}: {text}\n")


def make_disk(path, root, size):
    """All of the root as a disk that a System boots from."""
    root.write("/etc/systemd/system/serial-getty@ttyS0.service.d/login.conf", LOGIN)
    root.write("/etc/systemd/system.conf.d/patient.conf", PATIENT)
    # Packing all modules takes minutes here.
    root.write("/etc/initramfs-tools/conf.d/few", "MODULES=dep\n")
    root.image(path, size)


def connected(path):
    """A connection with that socket; None before somebody listens there."""
    try:
        return connect_unix(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return None


class System:
    """A QEMU with the disk FOLDER/disk, and a kernel that is on it. Debian 13's is a quarter faster than Debian 12's; a
    processor with more than qemu64 has string instructions, which the C library prefers and TCG does byte by byte."""

    def __init__(self, story, folder, kernel, *args, memory="1G", smp=2, append=""):
        self.folder = pathlib.Path(folder)
        for name in ("vmlinuz", "initrd.img"):
            subprocess.run(["debugfs", "-R", f"dump /boot/{name}-{kernel} {folder}/{name}", self.folder / "disk"],
                           check=True, stderr=subprocess.DEVNULL, timeout=60)
            assert (self.folder / name).stat().st_size, f"no {name}-{kernel} on the disk"
        path = self.folder / "console"
        path.unlink(missing_ok=True)
        story.tell(f"starts {kernel}")
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [QEMUS["10.0"], "-nodefaults", "-display", "none", "-machine", "q35", "-cpu", "qemu64", "-accel", "tcg",
             "-smp", str(smp), "-m", memory, "-kernel", self.folder / "vmlinuz", "-initrd", self.folder / "initrd.img",
             "-append", f"{CMDLINE} {append}", "-no-reboot",
             "-drive", f"file={self.folder}/disk,if=virtio,format=raw,cache=unsafe",
             "-chardev", f"socket,id=con,path={path},server=on,wait=off,logfile={story.path},logappend=on",
             "-serial", "chardev:con", *map(str, args)], stdin=subprocess.DEVNULL)
        self.console = wait_for(lambda: connected(path), 60, "QEMU's console", interval=0.05)
        self.text = ""
        self.serial = 0
        try:
            self.wait(r"root@[\w.-]+:~# ", 1800)
        except BaseException:
            self.kill()
            raise

    def wait(self, pattern, seconds):
        """Until the console has said so; what it said."""
        end = time.monotonic() + seconds
        while not (match := re.search(pattern, self.text)):
            left = end - time.monotonic()
            assert left > 0 and self.process.poll() is None, f"no {pattern}:\n{self.text[-3000:]}"
            self.console.settimeout(left)
            try:
                self.text += self.console.recv(65536).decode("utf-8", "replace")
            except TimeoutError:
                pass
        said, self.text = self.text[:match.start()], self.text[match.end():]
        return said

    def run(self, command, seconds=300):
        """A command's output; it must succeed."""
        self.serial += 1
        mark = f"done-{self.serial}"
        self.console.sendall(f"{command}; echo {mark[:4]}''{mark[4:]}=$?=\n".encode())
        said = self.wait(mark + "=", seconds)
        got = self.wait("=", 10)
        assert got == "0", f"{command}: {got}\n{said[-3000:]}"
        return said

    def end(self, how="poweroff"):
        """Shuts it down in order; QEMU ends at a reboot, too."""
        self.console.sendall(f"systemctl {how}\n".encode())
        self.process.wait(300)
        self.console.close()

    def kill(self):
        """Whatever it does."""
        self.process.kill()
        self.process.wait(20)
        self.console.close()
