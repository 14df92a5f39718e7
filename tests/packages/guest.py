#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian guest as users have it, which installs rvmrpc-dkms, on Debian's own QEMU beside rvmrpcd.

A whole system with systemd and udev boots from a disk, under TCG, where compilers take their time: 10 to 40 minutes.
Its console, which tells the story, goes to build/logs/packages-guest.log.
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


NEWER = ("linux-image-6.12-amd64", "linux-headers-6.12-amd64")


def tell(text):
    """A line of the host's, in the test's output and in the story."""
    comment(text)
    with open(LOG, "a", encoding="utf-8") as log:
        log.write(f"\n--- host, {time.strftime('%X')}: {text}\n")


class Guest:
    """A QEMU with the disk, and a kernel that is on it; its console as a shell."""

    def __init__(self, folder, daemon, kernel):
        self.folder = pathlib.Path(folder)
        for name in ("vmlinuz", "initrd.img"):
            subprocess.run(["debugfs", "-R", f"dump /boot/{name}-{kernel} {folder}/{name}", self.folder / "disk"],
                           check=True, stderr=subprocess.DEVNULL, timeout=60)
            assert (self.folder / name).stat().st_size, f"no {name}-{kernel} on the disk"
        path = self.folder / "console"
        path.unlink(missing_ok=True)
        tell(f"starts the guest with {kernel}")
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [QEMUS["7.2"], "-nodefaults", "-display", "none", "-machine", "q35", "-cpu", "max", "-accel", "tcg",
             "-smp", "2", "-m", "1G", "-kernel", self.folder / "vmlinuz", "-initrd", self.folder / "initrd.img",
             "-append", CMDLINE, "-no-reboot",
             "-drive", f"file={self.folder}/disk,if=virtio,format=raw,cache=unsafe",
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

    def end(self, how="poweroff"):
        """Shuts it down in order; QEMU ends at a reboot, too."""
        self.console.sendall(f"systemctl {how}\n".encode())
        self.process.wait(180)
        self.console.close()

    def kill(self):
        """Whatever it does."""
        self.process.kill()
        self.process.wait(20)
        self.console.close()


def make_disk(folder, root):
    """A disk with the system of the root, but for its newer kernel, which apt has at hand instead."""
    root.run("apt-get", "purge", "-y", r"^linux-(image|headers|kbuild)-6\.12")
    root.run("apt-get", "update")
    root.run("apt-get", "install", "-y", "--no-install-recommends", "--download-only", *NEWER)
    place = root.upper / "etc/systemd/system/serial-getty@ttyS0.service.d"
    place.mkdir(parents=True)
    (place / "login.conf").write_text(LOGIN, encoding="ascii")
    root.image(folder / "disk", "6G")


def answers(daemon, kernel, since):
    """Waits for the guest's driver; the kernel that it says it is must be that one."""
    wait_for(lambda: daemon.rvmrpc("meminfo", "guest").status == 0, 120, "the driver", interval=0.5)
    tell(f"rvmrpc meminfo guest: answers {time.monotonic() - since:.0f} s after\n" + daemon.ok("meminfo", "guest").out)
    assert daemon.json("osinfo", "guest")["release"] == kernel


def life(folder, daemon, root, running):
    """The guest's, from the installation to the purge. running: a list for the guest that runs."""
    kernel, = root.run("ls", "/lib/modules").split()
    guest = Guest(folder, daemon, kernel)
    running.append(guest)
    assert daemon.rvmrpc("meminfo", "guest").status == 7
    since = time.monotonic()
    guest.run(f"apt-get install -y {root.names['rvmrpc-dkms']}", 1800)
    answers(daemon, kernel, since)
    guest.run(f"apt-get install -y --no-install-recommends --no-download {' '.join(NEWER)}", 3600)
    newer, = set(re.findall(r"/boot/vmlinuz-([\w.+-]+)", guest.run("ls /boot/vmlinuz-*"))) - {kernel}
    tell(f"a newer kernel is installed: {newer}")
    assert f"{newer}, x86_64: installed" in guest.run("dkms status")
    running.clear()
    guest.end("reboot")

    since = time.monotonic()
    guest = Guest(folder, daemon, newer)
    running.append(guest)
    answers(daemon, newer, since)
    guest.run("dpkg --purge rvmrpc-dkms", 300)
    left = guest.run("lsmod; dkms status; ls /usr/src; find /lib/modules -name 'rvmrpc*'")
    assert not re.search(r"^rvmrpc|/rvmrpc", left, re.MULTILINE), left
    tell("rvmrpc meminfo guest: " + (gone := daemon.rvmrpc("meminfo", "guest")).err)
    assert gone.status == 7
    running.clear()
    guest.end()


@case("a guest installs the driver, and it loads; updates its kernel, reboots, and it loads; purges it: gone",
      timeout=7000)
def story():
    """No network: apt has all packages at hand."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    LOG.unlink(missing_ok=True)
    root = Root()
    running = []
    with tempfile.TemporaryDirectory(prefix="rvmrpc-guest-") as name, Rvmrpcd("guest") as daemon:
        try:
            make_disk(pathlib.Path(name), root)
            life(name, daemon, root, running)
        finally:
            for guest in running:
                guest.kill()
            root.close()


if __name__ == "__main__":
    main(guests=False)
