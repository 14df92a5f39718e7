# SPDX-License-Identifier: GPL-2.0-or-later
"""Three levels: this machine (L0) emulates a host with SVM (L1), whose KVM runs
guests (L2).

L1 is a guest of tests/vm with virtual serial ports, one for each monitor and
shell of an L2: QEMU in L1 opens its end as a character device, so this side
talks to L2 as to any VM. The files of L2 are in a folder that L1 mounts.
"""
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from harness import BUILD, VM, GuestShell, Timeout, shared, wait_for  # noqa: E402
from harness.paths import connect_unix  # noqa: E402
from harness.qmp import QMP  # noqa: E402
from harness.wait import Deadline  # noqa: E402

# The most QEMUs at a time in L1: two VMs, and the target of a migration.
SLOTS = 3
CHANNELS = ("qmp", "qmp2", "guest")
# The build whose kernel L2 boots: a guest that looks for its own faults in a host that does takes minutes to.
L2_BUILD = pathlib.Path(os.environ.get("RVMRPC_L2_BUILD") or BUILD)
# Folders of this machine that L1 mounts. What L1 only reads may be cached.
MOUNTS = {"nested": (L2_BUILD / "nested" / "root", True), "kvm": (BUILD / "kvm", True),
          "clients": (BUILD / "clients", True),
          "modules": (BUILD / "modules" / "6.12", True)}


class L1(VM):
    """A host with emulated SVM: Debian's kernel, and KVM of one's choice.

    In it: /nested (QEMU), /kvm (our KVM), /clients (its users, and programs),
    /modules (the guest's driver and examples), all read-only, and /share, which
    is self.share out here.
    """

    mounts = MOUNTS
    # A host that hangs is asked what it does.
    cmdline = f"{VM.cmdline} sysrq_always_enabled"

    def __init__(self, kvm="stock", params="", *, series="6.12", **options):
        super().__init__(series, **{"smp": 2, "memory": "2048M", "device": False, **options})
        self.kvm = kvm
        self.params = params
        self.share = self.dir / "share"
        self.share.mkdir()
        self.ports = {}
        self.guests = [None] * SLOTS

    def _images(self):
        series = self.options["kernel"]
        return super()._images()[0], BUILD / "nested" / f"initramfs{'' if series == '6.12' else '-' + series}.cpio"

    def command(self):
        args = super().command()
        for tag, (path, readonly) in {**self.mounts, "share": (self.share, False)}.items():
            args += ["-fsdev", f"local,id={tag},path={path},security_model=none,"
                               f"readonly={'on' if readonly else 'off'}",
                     "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        # A host that crashes must end the tests, not start anew.
        args += ["-no-reboot", "-device", "virtio-serial-pci"]
        for number, name in enumerate(self._port_names(), 1):
            args += ["-chardev", f"socket,id={name},path={name}.sock,server=on,wait=off",
                     "-device", f"virtserialport,nr={number},chardev={name},name={name}"]
        return args

    @staticmethod
    def _port_names():
        return [f"l2-{slot}-{channel}" for slot in range(SLOTS) for channel in CHANNELS]

    def boot(self, timeout=240.0):
        """Starts L1, mounts its folders and loads KVM."""
        super().boot(timeout)
        mounts = [f"mkdir -p /{tag} && mount -t 9p -o trans=virtio,msize=512000,"
                  f"{'ro,cache=loose' if readonly else 'cache=none'} {tag} /{tag}"
                  for tag, (_, readonly) in {**self.mounts, "share": (None, False)}.items()]
        self.guest.check(" && ".join([
            *mounts, "ln -s /nested/lib /lib64", "ln -s /nested/lib /lib/x86_64-linux-gnu"]))
        for line in self.guest.check("cd /sys/class/virtio-ports && grep . */name").split():
            path, name = line.split(":")
            self.ports[name] = "/dev/" + path.split("/")[0]
        self.load_kvm(self.kvm, self.params)
        return self

    def load_kvm(self, kvm="stock", params=""):
        """Loads Debian's KVM ("stock") or ours ("ours"), with parameters of kvm.ko."""
        if kvm == "stock":
            self.guest.check(f"modprobe kvm {params} && modprobe kvm_amd")
        else:
            # A debug kernel has no ccp, and its kvm-amd.ko needs none.
            self.guest.check(f"modprobe irqbypass; modprobe -q ccp; insmod /kvm/kvm.ko {params} && "
                             "insmod /kvm/kvm-amd.ko && insmod /clients/rvmrpc_host.ko && "
                             "insmod /clients/rvmrpc_kvm.ko")
        self.kvm, self.params = kvm, params

    def unload_kvm(self):
        """Removes KVM's modules; no guest may run."""
        self.guest.check(f"rmmod {'' if self.kvm == 'stock' else 'rvmrpc_kvm rvmrpc_host'} kvm_amd kvm")

    def stop(self):
        """Ends L2's first: without L1 they cannot answer."""
        try:
            for guest in self.guests:
                if guest is not None:
                    guest.stop()
        except Timeout as error:
            # The last case of a file tells it; the next L1 must find nothing of this one.
            self.report_hung()
            VM.complaints.append(f"BUG: a host that does not answer: {error}")
            VM.live[:] = [vm for vm in VM.live if vm not in self.guests]
        super().stop()

    def report_hung(self):
        """What its CPUs do, and what its tasks wait for."""
        for letter in "9lwt":
            self.qmp.hmp(f"sendkey alt-sysrq-{letter}")
            time.sleep(2)
        self.report()
        text = self.console()
        print("\n".join(f"# sysrq: {line}" for line in text[text.rfind("sysrq: Show backtrace"):].splitlines()[:400]))
        for _ in range(3):
            for line in self.qmp.hmp("info registers -a").splitlines():
                if "IP=" in line:
                    print(f"# {line}")
            time.sleep(0.2)


class RemoteProcess:
    """QEMU in L1, for what VM asks of a process."""

    def __init__(self, l1, folder):
        self.l1 = l1
        self.folder = folder
        self.pid = int(wait_for(
            lambda: (folder / "launched").exists() and (folder / "launched").read_text(),
            60, "QEMU's start in L1"))
        self.ended = None

    @property
    def returncode(self):
        """Its exit status as the shell in L1 has it, None while it runs."""
        path = self.folder / "status"
        if self.l1.process.poll() is not None:
            return -1
        if self.ended is None and path.exists():
            text = path.read_text(encoding="ascii")
            self.ended = int(text) if text.endswith("\n") else None
        # Known for good: the folder goes with the guest.
        return self.ended

    def poll(self):
        """As subprocess has it."""
        return self.returncode

    def wait(self, timeout):
        """As subprocess has it."""
        try:
            wait_for(lambda: self.returncode is not None, timeout, "end of QEMU in L1")
        except Timeout:
            raise subprocess.TimeoutExpired("QEMU in L1", timeout) from None
        return self.returncode

    def send_signal(self, number):
        """As subprocess has it."""
        if self.returncode is None:
            self.l1.guest.run(f"kill -{int(number)} {self.pid}")


class L2(VM):
    """A guest of L1's KVM. Its files are in a folder of L1's share."""

    PROGRAM = ("/nested/qemu-system-x86_64", "-L", "/nested/data")
    boot_timeout = 240.0
    # The next one in its slot needs its ports.
    quit_timeout = 20.0

    def __init__(self, l1, slot=0, **options):
        if l1.guests[slot] is not None:
            raise RuntimeError(f"slot {slot} of L1 is taken")
        self.l1 = l1
        self.slot = slot
        folder = l1.share / f"l2-{slot}-{time.monotonic_ns()}"
        # A second, as it is without, is not much on a machine with other work; no case waits for it.
        opts = ",".join(filter(None, ("default-timeout=20000", options.pop("device_opts", ""))))
        super().__init__("6.12", rundir=folder, **{"accel": "kvm", "cpu": "host", "device_opts": opts, **options})
        self.channels = {}

    def _images(self):
        return "/nested/vmlinuz", "/nested/initramfs.cpio"

    def _channel(self, name):
        return f"pipe,id={name},path={self.l1.ports[f'l2-{self.slot}-{name}']}"

    def command(self):
        return [*self.PROGRAM, *super().command()[1:]]

    def wait_ready(self, timeout=120.0):
        """Waits for the shell, and asks the monitor something at times.

        When a guest opens its serial port, it empties a FIFO that our first
        lines had filled. QEMU's UART does not tell its character device so, and
        the main loop of a quiet QEMU would look at it again after many seconds.
        """
        deadline = Deadline(timeout, "L2's shell")
        while True:
            try:
                self.guest.sync(min(1.0, deadline.left()))
                return self
            except Timeout:
                deadline.left()
                self.qmp2.cmd("query-status")

    def _ports_are(self, connected):
        """Waits until L1 has heard that there is somebody at our end of each port, or nobody."""
        ports = " ".join(pathlib.Path(self.l1.ports[f"l2-{self.slot}-{name}"]).name for name in CHANNELS)
        wait_for(lambda: self.l1.guest.run(
            f"cd /sys/kernel/debug/virtio-ports && grep -l 'host_connected: {connected}' {ports}"
            )[1].split() == ports.split(), 60, "L1's view of its ports", interval=0.1)

    def _connect_ports(self):
        """Before QEMU opens them: a port that no one listens to drops what is written, and hangs up on
        its reader, which QEMU takes for the end of that character device. So the end of the connection before
        this one must have been seen, too. What L1 wrote last, after that end, has L0's QEMU throttle the port, for
        ever: a new connection does not end it, its end does (hw/char/virtio-console.c, flush_buf()).
        """
        for _ in range(3):
            self._ports_are(0)
            for name in CHANNELS:
                self.channels[name] = connect_unix(self.l1.dir / f"l2-{self.slot}-{name}.sock")
            self._ports_are(1)
            if not self._throttled():
                return
            self._close_ports()
        raise Timeout(f"slot {self.slot}: QEMU throttles its ports")

    def _throttled(self):
        """Whether L0's QEMU takes nothing that L1 writes to a port of ours."""
        first = self.slot * len(CHANNELS) + 1
        tree = self.l1.qmp.hmp("info qtree")
        found = [re.search(rf"port {first + n}, guest \w+, host \w+, throttle (\w+)", tree).group(1)
                 for n in range(len(CHANNELS))]
        return "on" in found

    def _close_ports(self):
        for channel in self.channels.values():
            channel.close()

    def _launch(self, command):
        self._connect_ports()
        script = (f"cd /share/{self.dir.name}\n"
                  f"sh -c 'echo $$ >launched; exec \"$@\"' sh {shlex.join(command)} "
                  "</dev/null >qemu.log 2>&1\n"
                  "echo $? >status\n")
        (self.dir / "launch").write_text(script, encoding="utf-8")
        self.l1.guest.check(f"setsid sh /share/{self.dir.name}/launch >/dev/null 2>&1 &")
        self.l1.guests[self.slot] = self
        self.process = RemoteProcess(self.l1, self.dir)

    def _connect_all(self):
        self.qmp = self._connect(lambda: QMP(self.channels["qmp"], 60), 60)
        self._qmp2 = self._connect(lambda: QMP(self.channels["qmp2"], 60), 60)
        self.guest = GuestShell(self.channels["guest"])
        self.guest.nudge = self._nudge

    def _nudge(self):
        """Of the end of a full FIFO QEMU does not tell the character device later, either. A signal that it ignores has its
        main loop look; the monitors may have commands under way, or L1's shell.
        """
        if not self.l1.guest.waits:
            self.process.send_signal(signal.SIGIO)

    def stop(self):
        """Ends QEMU and frees the slot."""
        super().stop()
        self._close_ports()
        if self.l1.guests[self.slot] is self:
            self.l1.guests[self.slot] = None
            if not self.keep:
                shutil.rmtree(self.dir, ignore_errors=True)


def shared_l1(**options):
    """The L1 that the cases of a file share."""
    return shared(L1, **options)


def shared_l2(l1, **options):
    """A guest in it that they share; with a slot, several."""
    return shared(L2, l1=l1, **options)
