#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian guest as users have it, which installs rvmrpc-dkms, on Debian's own QEMU beside rvmrpcd.

A whole system with systemd and udev boots from a disk, under TCG, where compilers take their time: they ask ccache,
which knows the driver from a copy of the same system; with RVMRPC_LONG=1 they do not, and it takes 20 to 60 minutes.
Its console, which tells the story, goes to build/logs/packages-guest.log.
"""
import os
import pathlib
import re
import shutil
import tempfile
import time

from roots import BUILD, Root
from system import Story, System, make_disk

# pylint: disable=wrong-import-position
from harness import case, main, wait_for  # noqa: E402
from stand import Rvmrpcd  # noqa: E402

NEWER = ("linux-image-6.12-amd64", "linux-headers-6.12-amd64")
# DKMS' settings of the driver.
CCACHE = ('MAKE[0]="env PATH=/usr/lib/ccache:$PATH CCACHE_DIR=/var/cache/ccache CCACHE_COMPILERCHECK=content '
          '${MAKE[0]}"\n')
OPTIONS = "options rvmrpc user=1 allow=default,hello.*"


def know_driver(root):
    """Has ccache know the driver for each kernel; what it knows is kept for the next time."""
    kept, there = BUILD / "packages-ccache", root.upper / "var/cache/ccache"
    if kept.exists():
        shutil.copytree(kept, there)
    root.run("apt-get", "install", "-y", "--no-install-recommends", "ccache")
    root.write("/etc/dkms/rvmrpc.conf", CCACHE)
    root.install("rvmrpc-dkms", timeout=1800)
    root.run("dpkg", "--purge", "rvmrpc-dkms")
    shutil.copytree(there, kept, dirs_exist_ok=True)


def prepare(folder, root):
    """A disk with the system of the root, but for its newer kernel, which apt has at hand instead; the older one."""
    root.run("apt-get", "update")
    if not os.environ.get("RVMRPC_LONG"):
        know_driver(root)
    root.run("apt-get", "purge", "-y", r"^linux-(image|headers|kbuild)-6\.12")
    root.run("apt-get", "install", "-y", "--no-install-recommends", "--download-only", *NEWER)
    make_disk(folder / "disk", root, "6G")
    kernel, = root.run("ls", "/lib/modules").split()
    return kernel


class Life:
    """The guest's, from the installation to the purge."""

    def __init__(self, folder, daemon, root):
        self.folder = folder
        self.daemon = daemon
        self.names = root.names
        self.story = Story("guest")
        self.guest = None
        self.older = prepare(folder, root)

    def boot(self, kernel):
        """With that kernel."""
        self.guest = System(self.story, self.folder, kernel,
                            "-chardev", f"socket,id=rv,path={self.daemon.ivshmem('guest')}",
                            "-device", "ivshmem-doorbell,vectors=1,chardev=rv",
                            append="apparmor=0 audit=0 systemd.mask=libvirtd.service systemd.mask=libvirtd.socket "
                            "systemd.mask=libvirt-guests.service")

    def end(self, how):
        """Shuts it down."""
        guest, self.guest = self.guest, None
        guest.end(how)

    def answers(self, kernel, since, what):
        """Waits for the guest's driver; the kernel that it says it is must be that one."""
        wait_for(lambda: self.daemon.rvmrpc("meminfo", "guest").status == 0, 120, "the driver", interval=0.5)
        self.story.tell(f"rvmrpc meminfo guest: answers {time.monotonic() - since:.0f} s after {what}\n" +
                        self.daemon.ok("meminfo", "guest").out)
        assert self.daemon.json("osinfo", "guest")["release"] == kernel

    def gone(self):
        """No driver answers."""
        answer = self.daemon.rvmrpc("meminfo", "guest")
        self.story.tell(f"rvmrpc meminfo guest: {answer.err}")
        assert answer.status == 7, answer

    def install(self):
        """The driver comes to a guest that runs."""
        self.boot(self.older)
        self.gone()
        self.guest.run(f"echo '{OPTIONS}' >/etc/modprobe.d/local.conf")
        since = time.monotonic()
        self.guest.run(f"apt-get install -y {self.names['rvmrpc-dkms']} {self.names['rvmrpc-serve']}", 3000)
        self.answers(self.older, since, "apt-get install")

    def update(self):
        """A newer kernel, which DKMS makes the driver for."""
        since = time.monotonic()
        self.guest.run(f"apt-get install -y --no-install-recommends --no-download {' '.join(NEWER)}", 4000)
        newer, = set(re.findall(r"/boot/vmlinuz-([\w.+-]+)", self.guest.run("ls /boot/vmlinuz-*"))) - {self.older}
        self.story.tell(f"a newer kernel is installed after {time.monotonic() - since:.0f} s: {newer}")
        assert f"{newer}, x86_64: installed" in self.guest.run("dkms status")
        self.end("reboot")
        since = time.monotonic()
        self.boot(newer)
        self.answers(newer, since, "power-on")

    def serve(self):
        """A line of the guest's shell answers its host."""
        self.guest.run("{ rvmrpc-serve -r hello world -- sh -c 'echo hello from $(uname -r)' >/dev/null & }")
        wait_for(lambda: self.daemon.rvmrpc("call", "guest", "hello", "world", "-t", "20000").status == 0, 60,
                 "the guest's program", interval=0.5)
        said = self.daemon.ok("call", "guest", "hello", "world", "-t", "20000").out
        self.story.tell(f"rvmrpc call guest hello world: {said}")
        assert said == f"hello from {self.guest.run('uname -r').split()[-1]}\n", said

    def purge(self):
        """Nothing is left, and the guest goes on."""
        self.guest.run("kill %1; dpkg --purge rvmrpc-serve rvmrpc-dkms", 600)
        left = self.guest.run("lsmod; dkms status; ls /usr/src; find /lib/modules /usr/sbin -name 'rvmrpc*'")
        assert not re.search(r"^rvmrpc|/rvmrpc", left, re.MULTILINE), left
        self.gone()
        self.end("poweroff")


@case("a guest installs the driver, and it loads; updates its kernel, reboots, and it loads; its shell serves; "
      "purged: gone", timeout=9000)
def story():
    """No network: apt has all packages at hand."""
    root = Root()
    life = None
    with tempfile.TemporaryDirectory(prefix="rvmrpc-guest-") as name, Rvmrpcd("guest") as daemon:
        try:
            life = Life(pathlib.Path(name), daemon, root)
            life.install()
            life.update()
            life.serve()
            life.purge()
        finally:
            if life and life.guest:
                life.guest.kill()
            root.close()


if __name__ == "__main__":
    main(guests=False)
