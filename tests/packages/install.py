#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages in a Debian system: installed, upgraded, purged; DKMS for each of its kernels. No service runs here."""
import pathlib
import re

from roots import BUILD, Root

from harness import Skip, case, comment, main  # noqa: E402

HOST = ("librvmrpc0", "rvmrpcd", "rvmrpc-tools", "prometheus-rvmrpc-exporter")
SHARED = {}


def host():
    """The one that the cases about a host share, with the list of its files before."""
    if "host" not in SHARED:
        root = SHARED["host"] = Root()
        SHARED["before"] = root.files()
        comment(root.run("cat", "/etc/debian_version"))
        root.install(*HOST)
    return SHARED["host"]


@case("a host: installed; users, groups, folders; enabled is what shall be", timeout=600)
def install():
    """And the programs run."""
    root = host()
    for user in ("rvmrpc-exporter", "rvmrpc-balance"):
        assert "rvmrpc" in root.run("id", "-Gn", user).split(), user
    assert "libvirt-qemu" in root.run("id", "-Gn", "rvmrpc-exporter").split()
    enabled = {unit: root.run("systemctl", "is-enabled", unit, check=False).stdout.strip()
               for unit in ("rvmrpcd.service", "rvmrpc-exporter.service", "rvmrpc-balance.service", "rvmrpcd@.socket")}
    assert enabled == {"rvmrpcd.service": "enabled", "rvmrpc-exporter.service": "enabled",
                       "rvmrpc-balance.service": "disabled", "rvmrpcd@.socket": "disabled"}, enabled
    for program in ("rvmrpc", "rvmrpcd"):
        assert re.search(r"\d+\.\d+\.\d+", root.run(program, "--version")), program
    assert "--listen" in root.run("rvmrpc-exporter", "--help")
    text = root.run("systemd-analyze", "verify", "--man=no", "rvmrpcd.service", "rvmrpc-exporter.service",
                    "rvmrpc-balance.service", check=False).stdout
    assert "rvmrpc" not in text, text


@case("every file that they brought is a package's", timeout=300)
def owned():
    """But for those that systemd makes when a unit is enabled."""
    root = host()
    new = root.files() - SHARED["before"]
    listed = set(root.run("dpkg", "-L", *HOST).split())
    strange = {name for name in new if name not in listed and name.replace("/lib/", "/usr/lib/", 1) not in listed
               and name.replace("/usr/lib/", "/lib/", 1) not in listed}
    assert all("/systemd/" in name for name in strange), sorted(strange)
    assert len(new) > 20, new


@case("an upgrade keeps what the administrator wrote", timeout=300)
def upgrade():
    """Of both settings, and a VM's file."""
    root = host()
    files = ("/etc/rvmrpcd/rvmrpcd.conf", "/etc/default/rvmrpc-exporter", "/etc/rvmrpcd/vms.d/web1.conf")
    for name in files:
        root.run("sh", "-c", f"echo '# mine' >>{name}")
    root.install(*HOST)
    for name in files:
        assert "# mine" in root.run("cat", name), name


@case("purged: nothing is left", timeout=300)
def purge():
    """No file, user or group; no group before rvmrpcd, which has it in its configuration."""
    root = host()
    root.purge("prometheus-rvmrpc-exporter", "rvmrpc-tools")
    assert "rvmrpc:" in root.run("cat", "/etc/group")
    root.purge(*HOST)
    left = root.files() - SHARED["before"]
    assert not left, sorted(left)
    assert "rvmrpc" not in root.run("cat", "/etc/passwd", "/etc/group")
    assert "rvmrpc" not in root.run("ls", "/etc")


def left_out(root, module, kernels):
    """A kernel that is too new, and one of another architecture, are installed without it; one that fits gets it."""
    root.run("cp", "-a", f"/lib/modules/{kernels[-1]}", "/lib/modules/9.9.0-amd64")
    text = root.run("/etc/kernel/postinst.d/dkms", "9.9.0-amd64")
    assert "9.9.0" in text and "9.9.0" not in root.run("dkms", "status"), text
    root.run("rm", "-r", "/lib/modules/9.9.0-amd64")
    text = root.run("setarch", "i686", "/etc/kernel/postinst.d/dkms", kernels[-1])
    assert kernels[-1] in text and "i686" not in root.run("dkms", "status"), text
    root.run("dkms", "uninstall", f"{module}/0.2.0", "-k", kernels[0])
    text = root.run("/etc/kernel/postinst.d/dkms", kernels[0], timeout=900)
    assert f"{module}/0.2.0, {kernels[0]}, x86_64: installed" in root.run("dkms", "status"), text


@case("the guest's driver by DKMS: for each kernel that fits, and no failure for one that does not", timeout=1200)
def guest():
    """Purge takes all modules away."""
    root = Root()
    try:
        before = root.files()
        kernels = sorted(root.run("ls", "/lib/modules").split())
        text = root.install("rvmrpc-dkms", timeout=900)
        for kernel in kernels:
            assert f"rvmrpc/0.2.0, {kernel}, x86_64: installed" in root.run("dkms", "status"), text
            alias = root.run("modinfo", "-k", kernel, "-F", "alias", "rvmrpc")
            assert "pci:v00001AF4d000010F0" in alias and "pci:v00001AF4d00001110" in alias, alias
        comment("built for " + ", ".join(kernels))
        left_out(root, "rvmrpc", kernels)
        root.purge("rvmrpc-dkms")
        left = {name for name in root.files() - before if "/modules." not in name}
        assert not left and "rvmrpc" not in root.run("dkms", "status"), sorted(left)
    finally:
        root.close()


@case("a guest's programs: the command runs, and a program of the library's example is built; purged: nothing is left")
def serves():
    """No driver is here, which both say."""
    root = Root()
    try:
        root.run("apt-get", "install", "-y", "--no-install-recommends", "libc6-dev")
        before = root.files()
        root.install("rvmrpc-serve", "librvmrpc-guest-dev")
        text = root.run("rvmrpc-serve", "hello", "world", "--", "true", check=False).stdout
        assert "load rvmrpc.ko with user=1" in text, text
        root.run("gcc", "-Wall", "-Werror", "-I/usr/include/rvmrpc-guest", "-o", "/tmp/example",
                 "/usr/share/doc/librvmrpc-guest-dev/examples/rvmrpc_serve_example.c", "-lrvmrpc-guest")
        assert root.run("/tmp/example", check=False).returncode
        root.purge("rvmrpc-serve", "librvmrpc-guest-dev")
        assert not root.files() - before, sorted(root.files() - before)
    finally:
        root.close()


@case("a host's modules by DKMS: rvmrpc_host.ko for each kernel, our KVM for Debian's 6.12 alone", timeout=2400)
def modules():
    """Stock modules stay beside them, and are back after a purge."""
    root = Root()
    try:
        before = root.files()
        root.install("rvmrpc-host-dkms", "rvmrpc-kvm-dkms", timeout=1800)
        kernels = sorted(root.run("ls", "/lib/modules").split())
        status = root.run("dkms", "status")
        comment(status)
        for kernel in kernels:
            assert f"rvmrpc-host/0.2.0, {kernel}, x86_64: installed" in status
            assert (f"rvmrpc-kvm/0.2.0, {kernel}, x86_64: installed" in status) == kernel.startswith("6.12.")
            assert "updates/dkms" in root.run("modinfo", "-k", kernel, "-F", "filename", "rvmrpc_host")
        left_out(root, "rvmrpc-host", kernels)
        root.purge("rvmrpc-host-dkms", "rvmrpc-kvm-dkms")
        left = {name for name in root.files() - before if "/modules." not in name}
        assert not left, sorted(left)
        for kernel in kernels:
            assert "/kernel/arch/x86/kvm" in root.run("modinfo", "-k", kernel, "-F", "filename", "kvm")
    finally:
        root.close()


@case("our QEMU beside Debian's: both run, and purge takes ours alone", timeout=600)
def qemu():
    """With AppArmor's rules, which its parser takes. What it depends on comes from Debian's mirror."""
    root = Root()
    try:
        if "qemu-system-x86-rvmrpc" not in root.names:
            raise Skip("built without QEMU")
        deb = root.names["qemu-system-x86-rvmrpc"]
        root.run("apt-get", "update")
        depends = root.run("dpkg-deb", "-f", deb, "Depends").strip()
        root.run("apt-get", "satisfy", "-y", "--no-install-recommends", depends)
        before = root.files()
        root.run("dpkg", "--install", deb)
        assert "spin-us=" in root.run("qemu-system-x86_64-rvmrpc", "-device", "rvmrpc,help")
        assert "rvmrpc" in root.run("cat", "/etc/apparmor.d/abstractions/consoles.d/qemu-system-x86-rvmrpc")
        text = root.run("apparmor_parser", "-Q", "-K", "-p", "/etc/apparmor.d/libvirt/TEMPLATE.qemu",
                        check=False).stdout
        assert "qemu-system-x86_64-rvmrpc" in text, text[-2000:]
        assert "QEMU emulator version 7.2" in root.run("qemu-system-x86_64", "--version")
        root.purge("qemu-system-x86-rvmrpc")
        assert not root.files() - before
    finally:
        root.close()


if __name__ == "__main__":
    assert BUILD.exists() and pathlib.Path("/usr/bin/unshare").exists()
    try:
        main(guests=False)
    finally:
        if "host" in SHARED:
            SHARED["host"].close()
