#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""qemu-system-x86-rvmrpc beside Debian 13's own QEMU of the same version: it has ours more, and lacks nothing.

It is unpacked, not installed. Devices are compared without modules, which Debian has in packages of their own;
modules by their names in Debian's packaging.
"""
import difflib
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from harness import BUILD, Skip, case, comment, main, wait_for  # noqa: E402
from harness.qmp import QMP  # noqa: E402

DEBIAN = BUILD / "qemu-10.0" / "qemu-system-x86_64"
PACKAGING = BUILD / "stage" / "qemu" / "debian"
OURS = re.compile(r"rvmrpc|^guest-(?!panicked)|^GUEST_KERNEL_EVENT$", re.I)
# Debian 12 has no libblkio.
BLKIO = {"io_uring", "nvme-io_uring", "virtio-blk-vfio-pci", "virtio-blk-vhost-user", "virtio-blk-vhost-vdpa"}
SHARED = {}


class Package:
    """The package's files in a folder."""

    def __init__(self):
        debs = sorted(BUILD.glob("packages/qemu-system-x86-rvmrpc_*.deb"))
        if not debs:
            raise Skip("no package: run scripts/build-packages")
        self.dir = tempfile.TemporaryDirectory(prefix="rvmrpc-qemu-")
        root = pathlib.Path(self.dir.name)
        subprocess.run(["dpkg-deb", "-x", debs[-1], root], check=True)
        self.program = root / "usr/bin/qemu-system-x86_64-rvmrpc"
        self.modules = next(root.glob("usr/lib/*/rvmrpc/qemu"))


def package():
    """The one that the cases share."""
    if "it" not in SHARED:
        SHARED["it"] = Package()
    return SHARED["it"]


# Where Debian's program looks for modules, this machine may have another version's.
WITHOUT_MODULES = ["unshare", "--mount", "sh", "-c", 'if [ -d "$0" ]; then mount -t tmpfs none "$0"; fi; exec "$@"',
                   "/usr/lib/x86_64-linux-gnu/qemu"]


def lines(program, *args):
    """What it prints of itself without modules, its version and name left out."""
    if os.geteuid():
        raise Skip("needs root to hide this machine's modules")
    done = subprocess.run([*WITHOUT_MODULES, program, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=True, timeout=60, env=dict(os.environ, QEMU_MODULE_DIR="/nonexistent"))
    text = re.sub(r"^QEMU emulator version.*$", "", done.stdout, flags=re.M)
    return re.sub(r"(?:\S*/)?qemu-system-x86_64(?:-rvmrpc|\.bin)?", "QEMU", text).splitlines()


def more_and_less(*args):
    """Lines that ours has more, and less."""
    diff = list(difflib.ndiff(lines(DEBIAN, *args), lines(package().program, *args)))
    return [line[2:] for line in diff if line[0] == "+"], [line[2:] for line in diff if line[0] == "-"]


@case("the same version of QEMU")
def version():
    """Else what follows says nothing."""
    both = [subprocess.run([program, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")[0]
            for program in (DEBIAN, package().program)]
    comment("\n".join(both))
    numbers = [re.search(r"version (\S+) \(Debian (\S+?)[,)]", text).groups() for text in both]
    assert numbers[0] == numbers[1], both


@case("-help, -machine, -cpu, -accel, -audiodev, -display: not a line more or less", timeout=120)
def helps():
    """But for what names our device."""
    for args in (["-help"], ["-machine", "help"], ["-cpu", "help"], ["-accel", "help"], ["-object", "help"],
                 ["-netdev", "help"], ["-chardev", "help"]):
        more, less = more_and_less(*args)
        assert not less and all(OURS.search(line) for line in more), (args, more, less)


@case("-device help: rvmrpc more, and nothing less")
def devices():
    """Of what is in the program itself."""
    more, less = more_and_less("-device", "help")
    comment("\n".join(more))
    assert len(more) == 1 and more[0].startswith('name "rvmrpc", bus PCI') and not less, (more, less)


@case("modules: all that Debian's packages have")
def modules():
    """Debian's lists, and its rule for block drivers."""
    have = {path.name for path in package().modules.glob("*.so")}
    want = set()
    for path in PACKAGING.glob("qemu-system-*.install"):
        want |= set(re.findall(r"/qemu/([\w-]+\.so)$", path.read_text(encoding="utf-8"), re.M))
    want -= {"hw-s390x-virtio-gpu-ccw.so"}
    want |= {f"block-{name}.so" for name in ("curl", "gluster", "iscsi", "nfs", "rbd", "ssh")}
    comment(f"{len(have)} modules; beside Debian's lists: {sorted(have - want)}")
    assert len(want) > 25 and want <= have, sorted(want - have)


class Schema:
    """A QMP schema, by names and by types."""

    def __init__(self, program):
        with tempfile.TemporaryDirectory() as folder:
            with subprocess.Popen([*WITHOUT_MODULES, program, "-machine", "none", "-nodefaults", "-display", "none",
                                   "-S", "-qmp", f"unix:{folder}/qmp,server=on,wait=off"]) as process:
                try:
                    wait_for(pathlib.Path(folder, "qmp").exists, 30, "QMP", interval=0.05)
                    with QMP(f"{folder}/qmp") as qmp:
                        items = qmp.cmd("query-qmp-schema")
                        qmp.cmd("quit")
                    process.wait(20)
                finally:
                    process.kill()
        self.types = {item["name"]: item for item in items}

    def names(self):
        """Commands and events."""
        return {name for name, item in self.types.items() if item["meta-type"] in ("command", "event")}


def differences(a, b, one, other, seen, where):
    """Where the types of those names differ, as texts. Members that are type names lead on."""
    if (one, other) in seen:
        return
    seen.add((one, other))
    x, y = a.types[one], b.types[other]
    if x["meta-type"] != y["meta-type"]:
        yield f"{where}: {x['meta-type']}, {y['meta-type']}"
        return
    for key in ("arg-type", "ret-type", "element-type"):
        if key in x:
            yield from differences(a, b, x[key], y[key], seen, f"{where}.{key}")
    for key, name in (("members", "name"), ("variants", "case")):
        mine = {m.get(name, m.get("type")) if isinstance(m, dict) else m: m for m in x.get(key, ())}
        yours = {m.get(name, m.get("type")) if isinstance(m, dict) else m: m for m in y.get(key, ())}
        if x["meta-type"] == "alternate":
            continue
        for member in sorted(mine.keys() ^ yours.keys()):
            yield f"{where}: {'-' if member in mine else '+'}{member}"
        for member in sorted(mine.keys() & yours.keys()):
            if isinstance(mine[member], dict) and "type" in mine[member]:
                yield from differences(a, b, mine[member]["type"], yours[member]["type"], seen, f"{where}.{member}")


@case("QMP's schema: our commands and events more, every other command and event the same", timeout=120)
def schema():
    """Down to each member of each type."""
    debian, ours = Schema(DEBIAN), Schema(package().program)
    assert not debian.names() - ours.names()
    more = sorted(ours.names() - debian.names())
    comment(" ".join(more))
    assert len(more) > 20 and all(OURS.search(name) for name in more), more
    seen, found = set(), []
    for name in sorted(debian.names()):
        found += differences(debian, ours, name, name, seen, name)
    blkio = [text for text in found if text.split(": -")[-1] in BLKIO and ".aio: " not in text]
    if blkio:
        comment(f"without libblkio: {len(blkio)} places lack its drivers")
    rest = [text for text in found if text not in blkio]
    assert not rest, rest[:20]


class Started:
    """Our program with its modules; a monitor."""

    def __init__(self, *args):
        self.dir = tempfile.TemporaryDirectory(prefix="rvmrpc-qemu-")
        path = f"{self.dir.name}/qmp"
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [package().program, "-nodefaults", "-S", "-machine", "pc", "-L", BUILD / "qemu-10.0" / "data",
             "-qmp", f"unix:{path},server=on,wait=off", *map(str, args)], stderr=subprocess.PIPE, text=True,
            env=dict(os.environ, QEMU_MODULE_DIR=str(package().modules)))
        try:
            wait_for(lambda: os.path.exists(path) or self.process.poll() is not None, 30, "QMP", interval=0.05)
            assert self.process.poll() is None, self.process.stderr.read()
            self.qmp = QMP(path)
        except BaseException:
            self.process.kill()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(20)
        self.process.stderr.close()
        self.qmp.close()


@case("-sandbox on: each thread is filtered, and the device is there")
def sandbox():
    """As the kernel says of it."""
    with Started("-display", "none", "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,"
                 "resourcecontrol=deny", "-device", "rvmrpc") as qemu:
        for status in pathlib.Path(f"/proc/{qemu.process.pid}/task").glob("*/status"):
            assert "Seccomp:\t2" in status.read_text(encoding="ascii"), status
        assert qemu.qmp.cmd("query-rvmrpc")["state"] == "disconnected"


@case("VNC with TLS by certificates: the server is there, and asks for them")
def vnc():
    """Certificates of the test's own."""
    with tempfile.TemporaryDirectory() as folder:
        key, cert = f"{folder}/server-key.pem", f"{folder}/server-cert.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout",
                        key, "-out", cert, "-addext", "basicConstraints=critical,CA:TRUE"], check=True,
                       stderr=subprocess.DEVNULL, timeout=60)
        pathlib.Path(folder, "ca-cert.pem").write_bytes(pathlib.Path(cert).read_bytes())
        with Started("-object", f"tls-creds-x509,id=tls,dir={folder},endpoint=server,verify-peer=off,sanity-check=off",
                     "-vnc", f"unix:{folder}/vnc,tls-creds=tls") as qemu:
            server = qemu.qmp.cmd("query-vnc-servers")[0]
            assert server["auth"] == "vencrypt" and server["vencrypt"] == "x509-none", server


@case("SPICE: its module loads, and the server is there")
def spice():
    """On a socket, and a QXL card with it."""
    with tempfile.TemporaryDirectory() as folder:
        with Started("-spice", f"unix=on,addr={folder}/spice,disable-ticketing=on", "-device", "qxl-vga") as qemu:
            assert qemu.qmp.cmd("query-spice")["enabled"] is True


if __name__ == "__main__":
    main(guests=False)
