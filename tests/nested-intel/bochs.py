# SPDX-License-Identifier: GPL-2.0-or-later
"""Three levels on Intel VT-x: Bochs on this machine (L0) emulates a host (L1),
whose KVM runs a guest (L2).

Bochs has four serial ports, and nothing else that this side could talk through:
L1's console, L1's shell, L2's monitor and L2's shell. L2's console is a file in
L1. All times are Bochs' own: it counts instructions, and skips idle time.
"""
import contextlib
import json
import os
import pathlib
import pty
import shlex
import signal
import socket
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from harness import BUILD, VM, GuestError, GuestShell, Timeout  # noqa: E402
from harness.qmp import QMP  # noqa: E402

BOCHS = BUILD / "bochs"
ISO = BUILD / "nested-intel" / "l1.iso"
PORTS = ("shell", "qmp", "guest")

# Haswell: VMX with EPT, unrestricted guest and VPID, without posted interrupts.
CONFIG = """\
plugin_ctrl: speaker=0
config_interface: textconfig
display_library: term, options="hideIPS"
cpu: model=corei7_haswell_4770, count=1, ips=200000000, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest=1024, host=1024
romimage: file={bochs}/bios, options=fastboot
vgaromimage: file={bochs}/vgabios
ata0-master: type=cdrom, path={iso}, status=inserted
boot: cdrom
clock: sync=none, time0=utc
log: bochs.log
panic: action=fatal
error: action=ignore
com1: enabled=1, mode=file, dev=console.log
com2: enabled=1, mode=socket-client, dev=127.0.0.1:{shell}
com3: enabled=1, mode=socket-client, dev=127.0.0.1:{qmp}
com4: enabled=1, mode=socket-client, dev=127.0.0.1:{guest}
"""


def drain(terminal):
    """Bochs' screen, which nobody looks at, until Bochs ends."""
    with contextlib.suppress(OSError):
        while os.read(terminal, 4096):
            pass
    os.close(terminal)


class L1(VM):
    """Bochs with Debian's kernel. Our KVM is at /kvm, its users at /clients, QEMU at /nested."""

    def __init__(self):
        super().__init__("6.12", device=False)
        self.ports = {}
        self.l2 = None

    def command(self):
        lib = BOCHS / "lib"
        return [str(lib / "ld-linux-x86-64.so.2"), "--library-path", str(lib),
                str(BOCHS / "bochs-bin"), "-q", "-f", "bochsrc", "-rc", "debugger"]

    def _launch(self, command):
        """Bochs wants a terminal for its screen. Its debugger starts L1."""
        listeners = {name: socket.create_server(("127.0.0.1", 0)) for name in PORTS}
        ports = {name: listener.getsockname()[1] for name, listener in listeners.items()}
        (self.dir / "bochsrc").write_text(
            CONFIG.format(bochs=BOCHS, iso=ISO, **ports), encoding="utf-8")
        (self.dir / "debugger").write_text("continue\n", encoding="utf-8")
        ours, theirs = pty.openpty()
        env = dict(os.environ, TERM="vt100", LTDL_LIBRARY_PATH=str(BOCHS / "plugins"),
                   BXSHARE=str(BOCHS))
        with open(self.dir / "qemu.log", "wb") as log:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                command, cwd=self.dir, env=env, stdin=theirs, stdout=theirs, stderr=log,
                start_new_session=True)
        os.close(theirs)
        threading.Thread(target=drain, args=(ours,), daemon=True).start()
        for name, listener in listeners.items():
            with listener:
                listener.settimeout(20)
                self.ports[name] = listener.accept()[0]

    def _connect_all(self):
        self.guest = GuestShell(self.ports["shell"])

    def stop(self):
        """Ends Bochs, which does not end by itself while L1 runs."""
        if self.l2 is not None:
            self.l2.stop()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
        super().stop()
        for port in self.ports.values():
            port.close()

    def boot(self, timeout=240.0):
        """Bochs is slow."""
        return super().boot(timeout)

    def log_text(self):
        """What Bochs has printed, and its log."""
        path = self.dir / "bochs.log"
        return super().log_text() + (path.read_text(errors="replace") if path.exists() else "")

    def load_kvm(self):
        """Our KVM for Intel's processors."""
        self.guest.check("insmod /kvm/kvm.ko && insmod /kvm/kvm-intel.ko && "
                         "insmod /clients/rvmrpc_host.ko && insmod /clients/rvmrpc_kvm.ko && "
                         "insmod /clients/rvmrpc_proc.ko", 120)

    def kvm_status(self):
        """The counters that KVM keeps of L2."""
        return json.loads(self.guest.check("/clients/vms", 120))[0]


class L2(VM):
    """The guest of L1. There is one, since L1's serial ports are."""

    def __init__(self, l1):
        super().__init__("6.12", accel="kvm", cpu="host", memory="128M", rundir=l1.dir / "l2")
        self.l1 = l1

    def boot(self, timeout=240.0):
        """The driver first: what the shell is sent before it listens may get stuck in QEMU."""
        self.start()
        self.wait_state("connected", timeout)
        return self.wait_ready(timeout)

    def _channel(self, name):
        """L1's ttyS2 and ttyS3; there is no second monitor."""
        if name == "qmp2":
            return "null,id=qmp2"
        return f"serial,id={name},path=/dev/ttyS{1 + PORTS.index(name)}"

    def _images(self):
        return "/nested/vmlinuz", "/nested/initramfs.cpio"

    def command(self):
        command = super().command()
        append = command.index("-append") + 1
        command[append] = self.l1.guest.check("cat /nested/cmdline").strip()
        return ["/nested/qemu-system-x86_64", "-L", "/nested/data", *command[1:]]

    def _launch(self, command):
        self.l1.guest.check(
            "mkdir /tmp/l2 && cd /tmp/l2 && for n in 2 3; do stty -F /dev/ttyS$n raw -echo; done; "
            f"setsid {shlex.join(command)} </dev/null >qemu.log 2>&1 &")
        self.l1.l2 = self
        self.process = self.l1.process

    def _connect_all(self):
        self.qmp = QMP(self.l1.ports["qmp"], 120)
        self.guest = GuestShell(self.l1.ports["guest"])

    def stop(self):
        """Fetches the logs; L2 ends with L1."""
        if self.l1.l2 is self:
            self.l1.l2 = None
            for name in ("console.log", "qemu.log"):
                with contextlib.suppress(Timeout, GuestError, OSError):
                    (self.dir / name).write_text(
                        self.l1.guest.check(f"cat /tmp/l2/{name}", 30), encoding="utf-8")
        if self in VM.live:
            VM.live.remove(self)
            VM.complaints += self.complaints_now()

    def report(self, _error=None):
        """What it has printed is still in L1."""
        self.l1.keep = True
        self.stop()
        super().report()
