#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian guest as users have it, with rvmrpc-dkms, on Debian's own QEMU beside rvmrpcd.

A whole system with systemd and udev boots from a disk, under TCG. Its console, which tells the story, goes to
build/logs/packages-guest.log.
"""
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

from roots import BUILD, Root

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "stock"))

# pylint: disable=wrong-import-position
from harness import case, comment, main, wait_for  # noqa: E402
from stand import QEMUS, Rvmrpcd  # noqa: E402

LOG = BUILD / "logs" / "packages-guest.log"
# A shell on the console, and no service that the guest does not need.
LOGIN = """[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 ttyS0 dumb
"""
CMDLINE = ("root=/dev/vda rw console=ttyS0 mitigations=off audit=0 quiet systemd.mask=libvirtd.service "
           "systemd.mask=libvirtd.socket systemd.mask=libvirt-guests.service systemd.mask=apt-daily.timer "
           "systemd.mask=apt-daily-upgrade.timer systemd.show_status=no")


class Guest:
    """A QEMU with the disk and the kernel of the root's that is wanted; its console as a shell."""

    def __init__(self, folder, daemon, root, kernel):
        self.folder = pathlib.Path(folder)
        boot = self.folder / kernel
        if not boot.exists():
            boot.mkdir()
            for name in ("vmlinuz", "initrd.img"):
                (boot / name).write_bytes((root.lower / "boot" / f"{name}-{kernel}").read_bytes())
        path = self.folder / "console"
        path.unlink(missing_ok=True)
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [QEMUS["7.2"], "-nodefaults", "-display", "none", "-machine", "q35", "-cpu", "max", "-accel", "tcg",
             "-smp", "2", "-m", "1G", "-kernel", boot / "vmlinuz", "-initrd", boot / "initrd.img", "-append", CMDLINE,
             "-drive", f"file={self.folder}/disk,if=virtio,format=raw,cache=unsafe", "-no-reboot",
             "-chardev", f"socket,id=rv,path={daemon.ivshmem('guest')}",
             "-device", "ivshmem-doorbell,vectors=1,chardev=rv",
             "-chardev", f"socket,id=con,path={path},server=on,wait=off,logfile={LOG},logappend=on",
             "-serial", "chardev:con"], stdin=subprocess.DEVNULL)
        wait_for(path.exists, 20, "QEMU", interval=0.05)
        self.console = socket.socket(socket.AF_UNIX)
        self.console.connect(str(path))
        self.text = ""
        self.serial = 0
        self.wait(r"root@[\w.-]+:~# ", 400)

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

    def run(self, command, seconds=120):
        """A command's output; it must succeed."""
        self.serial += 1
        mark = f"done-{self.serial}"
        self.console.sendall(f"{command}; echo {mark[:4]}''{mark[4:]}=$?=\n".encode())
        said = self.wait(mark + "=", seconds)
        status = self.wait("=", 10)
        assert status == "0", f"{command}: {status}\n{said[-3000:]}"
        return said

    def end(self):
        """Shuts it down in order."""
        self.console.sendall(b"sync; systemctl poweroff\n")
        self.process.wait(180)
        self.console.close()

    def kill(self):
        """Whatever it does."""
        self.process.kill()
        self.process.wait(20)
        self.console.close()


def make_disk(folder, root):
    """A disk with the system of the root."""
    place = root.upper / "etc/systemd/system/serial-getty@ttyS0.service.d"
    place.mkdir(parents=True)
    (place / "login.conf").write_text(LOGIN, encoding="ascii")
    root.image(folder / "disk", "6G")


@case("boots, loads the driver by its device, answers; with another kernel, too; purged: gone", timeout=3000)
def story():
    """The package is there before the first boot, as in an image of a cloud's."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    LOG.unlink(missing_ok=True)
    root = Root()
    guest = None
    with tempfile.TemporaryDirectory(prefix="rvmrpc-guest-") as name, Rvmrpcd("guest") as daemon:
        try:
            folder = pathlib.Path(name)
            root.install("rvmrpc-dkms", timeout=900)
            kernels = sorted(root.run("ls", "/lib/modules").split())
            make_disk(folder, root)
            for kernel in kernels:
                start = time.monotonic()
                guest = Guest(folder, daemon, root, kernel)
                assert guest.run("uname -r").strip().endswith(kernel)
                wait_for(lambda: daemon.rvmrpc("meminfo", "guest").status == 0, 60, "the driver", interval=0.5)
                comment(f"{kernel}: answers {time.monotonic() - start:.0f} s after QEMU's start")
                assert daemon.ok("osinfo", "guest", "--json").json()["release"] == kernel
                assert "rvmrpc" in guest.run("lsmod")
                if kernel == kernels[-1]:
                    guest.run("dpkg --purge rvmrpc-dkms", 300)
                    assert "rvmrpc" not in guest.run("lsmod; dkms status; ls /usr/src")
                    assert daemon.rvmrpc("meminfo", "guest").status == 7
                guest.end()
                guest = None
        finally:
            if guest:
                guest.kill()
            root.close()


if __name__ == "__main__":
    main(guests=False)
