#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian host as users have it (systemd, AppArmor, libvirt, Debian's QEMU) installs our packages and asks a guest.

All of it runs under TCG, its guest under TCG in TCG. Its console, which tells the story, goes to
build/logs/packages-host.log.
"""
import pathlib
import re
import shutil
import tempfile
import time

from roots import Root
from system import Story, System, make_disk

# pylint: disable=wrong-import-position
from harness import case, main  # noqa: E402
from harness.paths import kernel_files  # noqa: E402

TOOLS = ("librvmrpc0", "rvmrpcd", "rvmrpc-tools")
EXPORTER = "prometheus-rvmrpc-exporter"
UUID = "6f0b0ec1-5f0d-4f6a-9c0a-2f4a4dbd6f01"
IMAGES = "/var/lib/libvirt/images"
CONSOLE = "/var/log/libvirt/qemu/web1-console.log"
# The driver is in the guest, as on one that installed it; the device comes later.
DOMAIN = f"""<domain type='qemu'>
  <name>web1</name>
  <uuid>{UUID}</uuid>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{IMAGES}/vmlinuz</kernel>
    <initrd>{IMAGES}/initramfs</initrd>
    <cmdline>console=ttyS0 mitigations=off audit=0 nokaslr no_timer_check insmod=rvmrpc</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <serial type='file'><source path='{CONSOLE}'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
"""
METRICS = ("python3 -c 'import urllib.request as r; "
           "print(r.urlopen(\"http://127.0.0.1:9788/metrics\", timeout=60).read().decode())'")


def prepare(folder, root):
    """The host's disk, with a domain's files; its kernel."""
    images = root.upper / IMAGES.lstrip("/")
    images.mkdir(parents=True)
    for source, name in zip(kernel_files("6.12"), ("vmlinuz", "initramfs")):
        shutil.copy(source, images / name)
    root.write("/root/web1.xml", DOMAIN)
    make_disk(folder / "disk", root, "6G")
    return sorted(root.run("ls", "/lib/modules").split())[0]


class Life:
    """The host's, from the installation to the purge."""

    def __init__(self, suite, root):
        self.story = Story("host" if suite == "bookworm" else f"host-{suite}")
        self.names = root.names
        self.host = None
        self.before = None

    def boot(self, folder, kernel):
        """AppArmor enforces, and a guest runs that has no device of ours."""
        # Where the kernel of a guest in a guest patches itself, two processors outside made it panic once.
        self.host = System(self.story, folder, kernel, memory="2G", smp=1)
        assert "libvirtd" in self.host.run("aa-status --enabled && aa-status | sed -n '/enforce mode/,/complain/p'")
        self.host.run("virsh define web1.xml && virsh start web1", 900)
        since = time.monotonic()
        self.host.run(f"until grep -q 'rvmrpc guest: ready' {CONSOLE}; do sleep 1; done", 2400)
        self.story.tell(f"its guest is up after {time.monotonic() - since:.0f} s")
        self.before = self.domain()

    def domain(self):
        """What libvirt keeps of it."""
        return self.host.run("virsh dumpxml --inactive web1").split("<domain", 1)[1]

    def install(self, *names):
        """Packages of ours."""
        self.host.run("apt-get install -y " + " ".join(self.names[name] for name in names), 600)

    def first_answer(self):
        """From apt to the guest's memory, as the README has it."""
        since = time.monotonic()
        self.install(*TOOLS)
        self.host.run("rvmrpc attach web1 --yes", 200)
        self.host.run("until rvmrpc meminfo web1; do sleep 1; done", 300)
        took = time.monotonic() - since
        self.story.tell(f"rvmrpc meminfo web1: answers {took:.0f} s after apt-get install began")
        assert took < 300, took

    def look(self):
        """list, top, the exporter."""
        assert re.search(r"web1 .*connected", self.host.run("rvmrpc list"))
        assert "web1" in self.host.run("TERM=vt100 rvmrpc top -n 2")
        self.install(EXPORTER)
        text = self.host.run(METRICS)
        assert re.search(r'guest_memory_total_bytes{[^}]*"web1"[^}]*} [1-9]', text, re.M), text[-3000:]

    def denials(self):
        """AppArmor's, of this boot."""
        return re.findall(r'apparmor="DENIED".*', self.host.run("journalctl -k --no-pager | grep -a DENIED || true"))

    def confined(self):
        """The domain and libvirtd run under their profiles, and were denied nothing; a denial would have been seen."""
        text = self.host.run("ps -eo label,args | grep -E '^libvirt' ")
        assert f"libvirt-{UUID} (enforce)" in text and "libvirtd (enforce)" in text, text
        found = self.denials()
        assert not found, found
        self.host.run(f"! aa-exec -p libvirt-{UUID} cat /etc/shadow")
        assert self.denials()

    def purge(self):
        """The domain as before, and nothing left."""
        self.host.run("rvmrpc detach web1 --yes", 200)
        assert self.domain() == self.before
        self.host.run("virsh destroy web1")
        self.host.run(f"dpkg --purge {EXPORTER} {' '.join(reversed(TOOLS))}", 300)
        self.host.run("! ls -d /etc/rvmrpc* /run/rvmrpc* /var/lib/rvmrpc* && ! grep rvmrpc /etc/passwd /etc/group")
        host, self.host = self.host, None
        host.end()


LIFE = "a host installs, attaches a guest that runs, asks it within five minutes; AppArmor denies nothing; purged: as before"


@case(f"Debian 13: {LIFE}", timeout=7000, suite="trixie")
@case(f"Debian 12: {LIFE}", timeout=7000, suite="bookworm")
def story(suite):
    """No network: apt has all packages at hand."""
    root = Root(suite)
    life = Life(suite, root)
    with tempfile.TemporaryDirectory(prefix="rvmrpc-host-") as name:
        try:
            life.boot(name, prepare(pathlib.Path(name), root))
            life.first_answer()
            life.look()
            life.confined()
            life.purge()
        finally:
            if life.host:
                life.host.kill()
            root.close()


if __name__ == "__main__":
    main(guests=False)
