# SPDX-License-Identifier: GPL-2.0-or-later
"""A virtual machine under our QEMU."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

from .debug_kernel import BOOT, leaks, more_memory, without_others
from .guest import GuestShell
from .paths import QEMU, kernel_files
from .qmp import QMP
from .wait import Timeout, wait_for

# No audit, no mitigations: the guest starts sooner, and neither matters here. A kernel that tests its timer panics where the
# machine lets it wait for a few ticks; on KVM none does.
CMDLINE = "console=ttyS0 loglevel=5 mitigations=off audit=0 no_timer_check"

# A second, which a call has by default, is not much on a machine with other work. What is about times says so itself.
PATIENCE_MS = 10000

# What a kernel says when something is wrong. An OOM kill is not among it.
COMPLAINT = re.compile(r"BUG:|WARNING:|Oops|soft lockup|hard LOCKUP|stalls? on|blocked for more than|"
                       r"general protection|Kernel panic|UBSAN|invalid opcode:|"
                       r"unable to handle|irq .*: nobody cared|INFO: trying to register")


class VM:
    """Starts QEMU with two monitors, a console log and the guest's shell.

    All its files are in one folder: qmp.sock, qmp2.sock, guest.sock, pid,
    console.log, qemu.log, command. patient=False: its calls have the time that they have by default.
    """

    cmdline = CMDLINE
    boot_timeout = 120.0
    quit_timeout = 5.0      # of each of two signals
    live = []
    booted = 0
    complaints = []     # of the guests that have ended

    def __init__(self, kernel="6.12", *, smp=1, memory="256M", machine="pc", cpu="max",
                 accel="tcg", append="", device=True, device_opts="", share=None,
                 share_opts="", disk=None, incoming=None, interactive=False, patient=True,
                 extra=(), rundir=None, qemu=None):
        self.options = {
            "kernel": kernel, "smp": smp, "memory": memory, "machine": machine,
            "cpu": cpu, "accel": accel, "append": append, "device": device,
            "device_opts": device_opts, "share": share, "share_opts": share_opts,
            "disk": disk, "incoming": incoming, "interactive": interactive, "patient": patient,
            "extra": list(extra)}
        self.qemu = pathlib.Path(qemu or QEMU)
        self.own_dir = rundir is None
        self.dir = pathlib.Path(rundir or tempfile.mkdtemp(prefix="rvmrpc-")).resolve()
        self.dir.mkdir(parents=True, exist_ok=True)
        self.process = None
        self.qmp = None
        self._qmp2 = None
        self.guest = None
        self.keep = False

    # Command line

    def _images(self):
        """The kernel and its initramfs, by QEMU's paths."""
        return kernel_files(self.options["kernel"])

    def _channel(self, name):
        """The character device of qmp, qmp2 or guest, as an option."""
        return f"socket,id={name},path={name}.sock,server=on,wait=off"

    def _boot_args(self):
        o = self.options
        args = []
        if o["disk"]:
            args += ["-drive", f"file={pathlib.Path(o['disk']).resolve()},if=virtio"]
        if o["kernel"]:
            vmlinuz, initramfs = self._images()
            words = [self.cmdline, BOOT, "console_shell" if o["interactive"] else "", o["append"]]
            args += ["-kernel", str(vmlinuz), "-initrd", str(initramfs),
                     "-append", " ".join(word for word in words if word)]
        return args

    def _device_args(self):
        o = self.options
        args = []
        if o["device"]:
            said = not o["patient"] or "default-timeout" in o["device_opts"]
            patience = "" if said else f"default-timeout={PATIENCE_MS}"
            args += ["-device", ",".join(x for x in ("rvmrpc", patience, o["device_opts"]) if x)]
        if o["share"]:
            share = pathlib.Path(o["share"]).resolve()
            args += ["-fsdev", f"local,id=share,path={share},security_model=none",
                     "-device", ",".join(
                         x for x in ("virtio-9p-pci,fsdev=share,mount_tag=share",
                                     o["share_opts"]) if x)]
        return args

    def _port_args(self):
        """The console and the shell's serial port."""
        console = ["-chardev", "file,id=console,path=console.log,append=on",
                   "-serial", "chardev:console"]
        if self.options["interactive"]:
            console = ["-serial", "mon:stdio"]
        return [*console, "-chardev", self._channel("guest"), "-serial", "chardev:guest"]

    def command(self):
        """QEMU's command line; it runs in self.dir."""
        o = self.options
        args = [
            str(self.qemu), "-nodefaults", "-no-user-config", "-display", "none",
            "-accel", o["accel"], "-machine", o["machine"], "-cpu", o["cpu"],
            "-smp", str(o["smp"]), "-m", more_memory(o["memory"]), "-pidfile", "pid",
            "-chardev", self._channel("qmp"), "-mon", "chardev=qmp,mode=control",
            "-chardev", self._channel("qmp2"), "-mon", "chardev=qmp2,mode=control",
            *self._port_args()]
        args += self._boot_args() + self._device_args()
        if o["incoming"]:
            args += ["-incoming", o["incoming"]]
        return args + o["extra"]

    # Life

    def start(self):
        """Starts QEMU and connects to its monitor."""
        for name in ("qmp.sock", "qmp2.sock", "guest.sock", "console.log"):
            (self.dir / name).unlink(missing_ok=True)
        command = self.command()
        (self.dir / "command").write_text("\n".join(command) + "\n", encoding="utf-8")
        self._launch(command)
        VM.live.append(self)
        VM.booted += 1
        self._connect_all()
        return self

    def _launch(self, command):
        with open(self.dir / "qemu.log", "wb") as log:
            tty = self.options["interactive"]
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                command, cwd=self.dir, stdin=None if tty else subprocess.DEVNULL,
                stdout=None if tty else log, stderr=log,
                start_new_session=not tty)

    def _connect_all(self):
        self.qmp = self._connect(lambda: QMP(self.dir / "qmp.sock"), 20)
        self.guest = self._connect(lambda: GuestShell(self.dir / "guest.sock"), 5)

    def _connect(self, make, timeout):
        deadline = time.monotonic() + timeout
        while True:
            try:
                return make()
            except (FileNotFoundError, ConnectionError):
                time.sleep(0.02)
                if self.process.poll() is not None:
                    raise RuntimeError(f"QEMU ended with {self.process.returncode}: "
                                       f"{self.log_text()[-2000:].strip()}") from None
                if time.monotonic() > deadline:
                    raise Timeout("QEMU's sockets") from None

    @property
    def qmp2(self):
        """The second monitor, connected at first use."""
        if self._qmp2 is None:
            self._qmp2 = QMP(self.dir / "qmp2.sock")
        return self._qmp2

    def wait_ready(self, timeout=120.0):
        """Waits for the guest's shell."""
        self.guest.sync(timeout)
        return self

    def query(self):
        """The answer of query-rvmrpc."""
        return self.qmp.cmd("query-rvmrpc")

    def wait_state(self, state="connected", timeout=120.0):
        """Waits until query-rvmrpc has that state; returns its answer."""
        def check():
            info = self.query()
            return info if info["state"] == state else None
        return wait_for(check, timeout, f"rvmrpc {state}", interval=0.05)

    def boot(self, timeout=None):
        """start(), then waits for the shell and, with a device, the driver."""
        timeout = timeout or self.boot_timeout
        self.start()
        self.wait_ready(timeout)
        if self.options["device"] and "rvmrpc.load=0" not in self.options["append"]:
            self.wait_state("connected", timeout)
        return self

    def stop(self):
        """Ends QEMU, by force if need be, and removes its private folder."""
        if self.process is not None:
            if self.process.poll() is None:
                VM.complaints += leaks(self.guest)
                self._quit()
            if self in VM.live:
                VM.live.remove(self)
                self._note_complaints()
        for connection in (self.qmp, self._qmp2, self.guest):
            if connection is not None:
                connection.close()
        if self.own_dir and not self.keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def _note_complaints(self):
        """What the last case of the file tells; the console that has all of it stays."""
        found = self.complaints_now()
        if found:
            self.keep = True
            lines = self.console().splitlines()
            first = next((number for number, line in enumerate(lines) if line in found), len(lines))
            print(f"# files kept in {self.dir}")
            print("\n".join(f"# complaint: {line}" for line in lines[max(0, first - 5):first + 60]))
        VM.complaints += found

    def _quit(self):
        for send in (signal.SIGTERM, signal.SIGKILL):
            self.process.send_signal(send)
            try:
                self.process.wait(self.quit_timeout)
                return
            except subprocess.TimeoutExpired:
                continue

    def __enter__(self):
        if self.process is None:
            try:
                self.boot()
            except BaseException as error:
                self.report(error)
                self.stop()
                raise
        return self

    def __exit__(self, kind, error, _):
        if kind is not None:
            self.report(error)
        self.stop()

    # Evidence

    def console(self):
        """What the guest has printed on its console."""
        path = self.dir / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def log_text(self):
        """What QEMU has printed."""
        path = self.dir / "qemu.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def complaints_now(self):
        """Lines of the console in which the guest's kernel complains."""
        return [line for line in without_others(self.console()).splitlines() if COMPLAINT.search(line)]

    def report(self, _error=None):
        """Prints the end of the logs as comments, and keeps the files."""
        self.keep = True
        print(f"# files kept in {self.dir}")
        for name, text in (("console", self.console()), ("qemu", self.log_text())):
            for line in text.splitlines()[-30:]:
                print(f"# {name}: {line}")


def stop_by_pidfile(rundir, timeout=10.0, name="pid", program="qemu-system"):
    """Ends the program that was started in a folder, QEMU by default; false when none runs."""
    pidfile = pathlib.Path(rundir) / name
    try:
        pid = int(pidfile.read_text())
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            if program.encode() not in f.read():
                return False
        os.kill(pid, signal.SIGTERM)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return False
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), timeout, f"end of {program} {pid}")
    return True
