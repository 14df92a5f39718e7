# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the benchmark runs: a host with its client programs, and a guest with
every peer in it. The host is this machine, or L1 of the nested tests.
"""
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "vm"), str(TESTS / "nested")]

# pylint: disable=wrong-import-position
import levels  # noqa: E402
import virsh  # noqa: E402
from harness import BUILD, VM, Timeout, wait_for  # noqa: E402

BENCH = BUILD / "bench"
PEERS = pathlib.Path(os.environ.get("RVMRPC_CACHE") or pathlib.Path(
    os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "rvmrpc") / "bench-peers"
CID = 42
SSH_PORT = 22022
# Room for calls of 1 MiB.
BIG_SLOTS = "window=16M,request-bytes=0x100000,response-bytes=0x100000"
SPIN_US = 1000
PARAMETERS = "/sys/module/rvmrpc/parameters"
ADAPTIVE_US = 50    # the driver's default
# How long KVM's wait, and a client in the host's kernel, spin.
SPINS = ("/sys/module/kvm/parameters/vmlp_spin_ns", "/sys/module/rvmrpc_host/parameters/call_spin_ns")
UUID = "52564d52-0000-4000-8000-0000000000b0"

levels.SLOTS = 4
levels.MOUNTS["images"] = (BENCH, True)
levels.MOUNTS["tools"] = (BUILD / "host-tools", True)
levels.MOUNTS["stock"] = (BUILD / "nested" / "qemu-7.2", True)


class NoAnswer(Exception):
    """A peer did not answer, or not in time."""


def gained(before, after):
    """The difference of two sets of counters; what one of them lacks is left out."""
    found = {key: after[key] - value for key, value in before.items()
             if value is not None and after.get(key) is not None}
    if "mmio_exits" in found:
        found["user_exits"] = sum(found[key] for key in ("mmio_exits", "io_exits", "signal_exits"))
    return found


def guest_devices(folder, net=True, vsock=False):
    """QEMU's options for the peers; their sockets are in a folder of the host."""
    args = ["-device", "virtio-serial-pci,id=serial",
            "-chardev", f"socket,id=qga,path={folder}/qga.sock,server=on,wait=off",
            "-device", "virtserialport,bus=serial.0,chardev=qga,name=org.qemu.guest_agent.0",
            "-device", "virtio-balloon-pci,id=balloon0",
            "-chardev", f"socket,id=bqmp,path={folder}/qmp.sock,server=on,wait=off",
            "-mon", "chardev=bqmp,mode=control"]
    if net:
        args += ["-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{SSH_PORT}-:22",
                 "-device", "virtio-net-pci,netdev=net,romfile="]
    if vsock:
        args += ["-device", f"vhost-vsock-pci,guest-cid={CID}"]
    return args


class BenchVM(VM):
    """A guest on this machine."""

    def _images(self):
        return super()._images()[0], BENCH / "guest-initramfs.cpio"


class StockVM(BenchVM):
    """One of Debian's own QEMU."""

    def query(self):
        return {}


class BenchL1(levels.L1):
    """A host with the client programs at /bench, and vhost-vsock."""

    def _images(self):
        return super()._images()[0], BENCH / "host-initramfs.cpio"


class BenchL2(levels.L2):
    """A guest in it."""

    def _images(self):
        return "/nested/vmlinuz", "/images/guest-initramfs.cpio"


class StockL2(BenchL2):
    """One of Debian's own QEMU."""

    PROGRAM = ("/stock/qemu-system-x86_64",)


class Stand:
    """What the measuring needs of either host."""

    accel = kernel = vsock = tools = None
    at_once = 8     # guests
    bench = peers = folder = None

    def __init__(self):
        self.vm = None
        self.spin_defaults = {}
        self.target = {}

    def start_host(self):
        """What guests need."""
        raise NotImplementedError

    def start(self):
        """The guest with every peer."""
        raise NotImplementedError

    def make_vm(self, **options):
        """Another guest; booted by the caller."""
        raise NotImplementedError

    def make_stock_vm(self, **options):
        """One of Debian's own QEMU, without the device."""
        raise NotImplementedError

    def start_virsh(self):
        """A guest of libvirtd, or None."""

    def sh(self, command, timeout=60):
        """Output of a command of the host, which must succeed."""
        raise NotImplementedError

    def output(self, text, timeout):
        """What a command of the host prints; NoAnswer when it fails."""
        raise NotImplementedError

    def first_cpu(self):
        """Prefix of a command that is not to run where vCPUs may spin."""
        return ""

    def client_command(self, row, target, n, warm, timeout):
        """The client program's command line."""
        return f"{self.first_cpu()}timeout {timeout} {self.bench}/bench_client {row} {shlex.quote(str(target))} {n} {warm}"

    def client(self, row, target, n, warm=0, timeout=60):
        """ns of n calls."""
        text = self.output(self.client_command(row, target, n, warm, timeout), timeout + 5)
        return [int(word) for word in text.split()]

    def counted_client(self, row, target, n, warm=0, vm=None, timeout=60):
        """ns of n calls, and what the counters gained meanwhile."""
        command = self.client_command(row, target, n, warm, timeout)
        lines = self.output(f"{command} {(vm or self.vm).process.pid} bench", timeout + 5).splitlines()
        before, after = (json.loads(line) for line in lines if line.startswith("{"))
        samples = next(line for line in lines if line and not line.startswith("{"))
        return [int(word) for word in samples.split()], gained(before, after)

    def counted(self, vm, work):
        """What work() returns, and what the counters gained meanwhile."""
        before = self.counters(vm)
        result = work()
        return result, gained(before, self.counters(vm))

    def guest_samples(self, what, n, cpu=0):
        """ns of n times something that the guest's module does."""
        run = f"echo {what.format(n=n)} >run && cat samples"
        text = self.vm.guest.check(
            f"cd /sys/kernel/debug/rvmrpc_bench && taskset {1 << cpu:x} sh -c {shlex.quote(run)}", 60)
        return [int(word) for word in text.split()]

    def set_wait(self, idle_us):
        """The driver's way to wait: the default, which spins first, or one alone."""
        spin_us = SPIN_US if idle_us == ADAPTIVE_US else 0
        self.vm.guest.check(f"cd {PARAMETERS}; echo {spin_us} >spin_us; echo {idle_us} >vmlp_idle_us")

    def set_spin(self, spin_ns):
        """The window before a wait in KVM, or a client in the kernel, sleeps; None is the default."""
        if not self.kernel:
            return
        if not self.spin_defaults:
            self.spin_defaults = {file: int(self.sh(f"cat {file}")) for file in SPINS}
        self.sh("; ".join(f"echo {default if spin_ns is None else spin_ns} >{file}"
                          for file, default in self.spin_defaults.items()))

    def counters(self, vm=None):
        """A guest's counters so far."""
        return json.loads(self.sh(
            f"{self.bench}/bench_client counters none 0 0 {(vm or self.vm).process.pid} bench"))

    def ssh(self, command="", options=""):
        """A command line that runs a command in the guest."""
        return (f"HOME=/tmp {self.peers}/lib/ld-linux-x86-64.so.2 --library-path {self.peers}/lib "
                f"{self.peers}/{self.ssh_name} -y -y -i {self.key} -p {SSH_PORT} {options} "
                f"root@127.0.0.1 {shlex.quote(command) if command else ''} 2>/dev/null")

    def start_agent(self, vm):
        """qemu-ga in a guest."""
        vm.guest.check(
            "for p in /sys/class/virtio-ports/*; do "
            "if grep -q org.qemu.guest_agent $p/name; then port=/dev/${p##*/}; fi; done; "
            "setsid /bench/qemu-ga -m virtio-serial -p $port -t /tmp >/tmp/qga.log 2>&1 &")

    def start_peers(self):
        """In the guest: network, agents, servers."""
        guest = self.vm.guest
        guest.check("insmod /bench/rvmrpc_bench_guest.ko; ip link set lo up; ip link set eth0 up; "
                    "ip addr add 10.0.2.15/24 dev eth0; mkdir -p /etc/dropbear /var/run /var/log")
        guest.check("/bench/dropbearkey -t ed25519 -f /etc/dropbear/key >/dev/null 2>&1; "
                    "setsid /bench/dropbear -r /etc/dropbear/key -s -p 22 >/tmp/dropbear.log 2>&1")
        self.start_agent(self.vm)
        if self.vsock:
            guest.check("modprobe vmw_vsock_virtio_transport; setsid /bench/bench_vsockd "
                        ">/tmp/vsockd.log 2>&1 &")
        self.vm.qmp.cmd("qom-set", {"path": "/machine/peripheral/balloon0",
                                    "property": "guest-stats-polling-interval", "value": 1})
        for row, target in (("qga-ping", "qga"), ("command", "ssh")):
            self.wait_peer(row, self.target[target])
        if self.vsock:
            self.wait_peer("vsock-kept", self.target["vsock"])

    def wait_peer(self, row, target):
        """Until it answers."""
        def answers():
            try:
                return self.client(row, target, 1, timeout=20)
            except NoAnswer:
                return None
        wait_for(answers, 60, f"{row} of {target}", interval=0.5)

    def pin_vm(self, vm):
        """vCPU threads of a guest to the host's second CPU, QEMU's others to its first."""
        masks = " ".join(f"{1 << cpu:x}" for cpu in self.cpus)
        self.sh(f"set -- {masks}; for t in /proc/{vm.process.pid}/task/*; do case $(cat $t/comm) in "
                "CPU*) mask=$2 ;; *) mask=$1 ;; esac; taskset -p $mask ${t##*/} >/dev/null; done")

    def stop(self):
        """Ends all."""
        for vm in list(VM.live):
            vm.stop()


class LocalStand(Stand):
    """This machine; accel is tcg or kvm."""

    ssh_name = "dbclient"

    def __init__(self, accel):
        super().__init__()
        self.accel = accel
        self.bench = BENCH
        self.tools = BUILD / "host-tools"
        self.peers = PEERS
        self.key = BENCH / "key"
        self.kernel = accel == "kvm" and os.path.exists("/dev/rvmrpc")
        self.vsock = os.path.exists("/dev/vhost-vsock")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="rvmrpc-bench-"))
        self.cpus = sorted(os.sched_getaffinity(0))[:2]

    def sh(self, command, timeout=60):
        return subprocess.run(["sh", "-c", command], check=True, timeout=timeout, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout

    def output(self, text, timeout):
        result = subprocess.run(["sh", "-c", text], check=False, timeout=timeout, text=True,
                                stdin=subprocess.DEVNULL, capture_output=True)
        if result.returncode:
            raise NoAnswer(result.stderr.strip() or f"exit status {result.returncode}")
        return result.stdout

    def make_vm(self, kind=BenchVM, **options):
        """Another guest; booted by the caller."""
        return kind(accel=self.accel, cpu="max" if self.accel == "tcg" else "host", **options)

    def make_stock_vm(self, **options):
        return self.make_vm(kind=StockVM, qemu="/usr/bin/qemu-system-x86_64", device=False, **options)

    def start_host(self):
        if self.kernel:
            self.sh(f"insmod {BENCH}/src/tests/bench/modules/rvmrpc_bench.ko")

    def start(self):
        f = self.folder
        self.vm = self.make_vm(
            smp=1, memory="256M", device_opts=f"{BIG_SLOTS},socket={f}/rpc.sock",
            extra=["-name", "bench,debug-threads=on", "-uuid", UUID,
                   *guest_devices(f, vsock=self.vsock)]).boot()
        self.target = {"qmp": f / "qmp.sock", "qga": f / "qga.sock", "sock": f / "rpc.sock",
                       "vsock": CID, "vm": "bench", "ssh": self.ssh("cat /proc/meminfo"),
                       "shell": self.ssh("sh")}
        self.start_peers()

    def start_virsh(self):
        """A third one, of a real libvirtd; None where none can run."""
        return virsh.domain() if self.accel == "tcg" else None

    def counted_client(self, row, target, n, warm=0, vm=None, timeout=60):
        """Without our KVM the proxy's counters are QEMU's, and count the calls to warm up, too."""
        if self.kernel:
            return super().counted_client(row, target, n, warm, vm, timeout)
        before = self.proxy_counters(vm)
        samples, count = super().counted_client(row, target, n, warm, vm, timeout)
        made = {key: value * n / (n + warm)
                for key, value in gained(before, self.proxy_counters(vm)).items()}
        return samples, {**count, "exits": None, **made}

    def counters(self, vm=None):
        """Both QEMU's threads' and its proxy's."""
        found = super().counters(vm)
        return found if self.kernel else {**found, "exits": None, **self.proxy_counters(vm)}

    def proxy_counters(self, vm):
        """QEMU's."""
        stats = (vm or self.vm).query().get("stats", {})
        return {"hypercalls": stats.get("hypercalls"), "irqs": stats.get("interrupts"), "rings": stats.get("rings")}

    def stop(self):
        super().stop()
        if self.kernel:
            self.sh("rmmod rvmrpc_bench")
        subprocess.run(["rm", "-rf", self.folder], check=False)


class NestedStand(Stand):
    """L1, with our KVM, and a guest in it; the vCPU has L1's second CPU."""

    accel = "nested"
    at_once = levels.SLOTS
    kernel = vsock = True
    ssh_name = "lib/dbclient"

    def __init__(self):
        super().__init__()
        self.bench = self.peers = "/bench"
        self.tools = "/tools"
        self.key = "/bench/key"
        self.folder = "/tmp"
        self.cpus = [0, 1]
        self.l1 = None

    def sh(self, command, timeout=60):
        return self.l1.guest.check(command, timeout)

    def output(self, text, timeout):
        status, output = self.l1.guest.run(f"({text}) >/share/samples", timeout)
        if status:
            raise NoAnswer(output.strip() or f"exit status {status}")
        return (self.l1.share / "samples").read_text()

    def start_host(self):
        """L1."""
        self.l1 = BenchL1(kvm="ours", memory="2560M", extra=["-name", "host,debug-threads=on"])
        self.l1.boot()
        self.pin_host()
        self.sh("cd /bench && for m in $(cat vhost_vsock.list); do insmod $m; done; "
                "ip link set lo up; insmod rvmrpc_bench.ko; insmod /clients/rvmrpc_proc.ko", 60)

    def start(self):
        self.vm = self.make_vm(
            smp=1, memory="256M", device_opts=BIG_SLOTS,
            extra=["-name", "bench,debug-threads=on", "-uuid", UUID,
                   *guest_devices("/tmp", vsock=True)]).boot()
        self.target = {"qmp": "/tmp/qmp.sock", "qga": "/tmp/qga.sock", "vsock": CID, "vm": "bench",
                       "file": f"/proc/rvmrpc/{UUID}/meminfo",
                       "ssh": self.ssh("cat /proc/meminfo"), "shell": self.ssh("sh")}
        self.start_peers()
        self.pin_vm(self.vm)

    def make_vm(self, kind=BenchL2, **options):
        """Another L2; booted by the caller."""
        return kind(self.l1, self.l1.guests.index(None), **options)

    def make_stock_vm(self, **options):
        return self.make_vm(StockL2, device=False, **options)

    def first_cpu(self):
        return f"taskset {1 << self.cpus[0]:x} "

    def pin_host(self):
        """A CPU of this machine for each of L1's, else two that wake each other may stand in one queue for a slice."""
        cpus = sorted(os.sched_getaffinity(0))
        for task in pathlib.Path(f"/proc/{self.l1.process.pid}/task").iterdir():
            name = re.match(r"CPU (\d+)/", (task / "comm").read_text(encoding="ascii"))
            if name:
                os.sched_setaffinity(int(task.name), {cpus[int(name.group(1)) % len(cpus)]})


def make_stand(accel):
    """The stand for an accelerator."""
    return NestedStand() if accel == "nested" else LocalStand(accel)


def settle(seconds):
    """Time for what was just started to become quiet."""
    time.sleep(seconds)


__all__ = ["BENCH", "BUILD", "NoAnswer", "Stand", "Timeout", "make_stand", "settle", "wait_for"]
