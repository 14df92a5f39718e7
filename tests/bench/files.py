#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""files [ROUNDS [SETTING...]]: reads a large file of a guest from its host, beside the guest's memcpy and other ways to a guest.

All rows of a round are measured one after another, and the best of the rounds is what the machine's other work disturbed least. CPU
time, of QEMU and the client, is that work's least of all.
"""
import os
import pathlib
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "vm"), str(HERE)]

# pylint: disable=wrong-import-position
from harness import BUILD, VM, wait_for  # noqa: E402
from stand import PEERS, SSH_PORT, make_stand  # noqa: E402

MIB = 100
SSH_MIB = 1     # its ciphers are slow in a guest under TCG
RVMRPC = BUILD / "host-tools" / "rvmrpc"
NESTED_MIB = 96
LARGE = ",slots=8,response-bytes=0x100000"
# Slots: 4 of 64 KiB; 8 of 1 MiB. Under TCG, and of a guest of our KVM's in a host with emulated SVM.
SETTINGS = {"default": "", "large": LARGE, "nested-default": "", "nested-large": LARGE}


class FilesVM(VM):
    """With the bench's agents in its memory."""

    def _images(self):
        vmlinuz, initramfs = super()._images()
        both = self.dir / "initramfs.cpio"
        both.write_bytes(initramfs.read_bytes() + (BUILD / "bench/peers.cpio").read_bytes())
        return vmlinuz, both


def boot(folder, options):
    """A guest with a large file in memory, a folder of the host's by 9p, and sshd."""
    vm = FilesVM(smp=2, memory="1G", device_opts=f"socket={folder}/bench.sock{options}", share=folder, append="rvmrpc.fs_allow=/srv",
                 extra=["-name", "guest=bench", "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{SSH_PORT}-:22", "-device",
                        "virtio-net-pci,netdev=net,romfile="]).start()
    vm.wait_ready()
    vm.guest.check(f"mkdir -p /srv /9p /etc/dropbear /var/run /var/log; dd if=/dev/urandom of=/srv/large bs=1M count={MIB} 2>/dev/null",
                   timeout=60)
    vm.guest.check("insmod /bench/rvmrpc_bench_guest.ko; modprobe -a 9p 9pnet_virtio; mount -t 9p -o trans=virtio,msize=524288 share /9p; "
                   "ip link set lo up; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0", timeout=30)
    vm.guest.check("/bench/dropbearkey -t ed25519 -f /etc/dropbear/key >/dev/null 2>&1; "
                   "setsid /bench/dropbear -r /etc/dropbear/key -s -p 22 >/tmp/dropbear.log 2>&1", timeout=30)
    return vm


def rate_of(command, folder, mib=MIB, timeout=120):
    """MiB/s of a host's command that prints so much of the file; what reads it takes no time."""
    env = dict(os.environ, RVMRPC_PATH=str(folder))
    start = time.monotonic()
    subprocess.run(f"{command} > /dev/null", shell=True, check=True, timeout=timeout, env=env)
    return mib / (time.monotonic() - start)


def check_size(command, folder):
    """It is the whole file that is read."""
    done = subprocess.run(f"{command} | wc -c", shell=True, check=True, stdout=subprocess.PIPE, text=True, timeout=60,
                          env=dict(os.environ, RVMRPC_PATH=str(folder)))
    assert int(done.stdout) == MIB << 20, (command, done.stdout)


def in_guest(vm, path):
    """MiB/s of a read() there."""
    start = time.monotonic()
    vm.guest.check(f"dd if={path} of=/dev/null bs=1M 2>/dev/null; echo 3 > /proc/sys/vm/drop_caches", timeout=120)
    return MIB / (time.monotonic() - start)


def memcpy_rate(vm):
    """MiB/s of the guest's kernel, of 1 MiB at a time: the fastest."""
    text = vm.guest.check("cd /sys/kernel/debug/rvmrpc_bench && echo memcpy 20 1048576 > run && cat samples", timeout=60)
    return 1e9 / min(int(word) for word in text.split())


def mount_rate(folder):
    """MiB/s of a new mount: what its kernel has read ends with it."""
    place = folder / "mnt"
    place.mkdir(exist_ok=True)
    with subprocess.Popen([RVMRPC, "mount", "bench:/srv", place], stdout=subprocess.PIPE, env=dict(os.environ, RVMRPC_PATH=str(folder))) as process:
        try:
            process.stdout.readline()
            return rate_of(f"dd if={place}/large bs=1M 2>/dev/null", folder)
        finally:
            subprocess.run(["fusermount3", "-u", place], check=False)


def cpu_ms(vm):
    """Of QEMU, and of programs that have ended."""
    words = pathlib.Path(f"/proc/{vm.process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (int(words[11]) + int(words[12])) * 1000 / os.sysconf("SC_CLK_TCK") + (ended.ru_utime + ended.ru_stime) * 1000


def rows(vm, folder):
    """{row: (MiB/s, ms of CPU a MiB)} of one round."""
    key = folder / "key"
    ssh = (f"HOME=/tmp {PEERS}/lib/ld-linux-x86-64.so.2 --library-path {PEERS}/lib {PEERS}/dbclient -y -y -i {key} -p {SSH_PORT} "
           f"root@127.0.0.1 {shlex.quote(f'head -c {SSH_MIB}m /srv/large')} 2>/dev/null")
    ways = {"memcpy in the guest, 1 MiB": (lambda: memcpy_rate(vm), 20), "read() in the guest": (lambda: in_guest(vm, "/srv/large"), MIB),
            "rvmrpc cat": (lambda: rate_of(f"{RVMRPC} cat bench /srv/large", folder), MIB), "rvmrpc mount, dd": (lambda: mount_rate(folder), MIB),
            "virtio-9p: the guest reads the host's": (lambda: in_guest(vm, "/9p/large"), MIB),
            "SSH: cat": (lambda: rate_of(ssh, folder, SSH_MIB), SSH_MIB)}
    found = {}
    for name, (way, mib) in ways.items():
        before = cpu_ms(vm)
        found[name] = (way(), (cpu_ms(vm) - before) / mib)
        print(f"    {name}: {found[name][0]:.1f} MiB/s, {found[name][1]:.1f} ms a MiB", file=sys.stderr, flush=True)
    return found


def seconds_of(machine, command):
    """How long it took, by that machine's clock, which tells hundredths."""
    begin, end = machine.guest.check(f"cut -d' ' -f1 /proc/uptime; {command} && cut -d' ' -f1 /proc/uptime", timeout=300).split()
    return float(end) - float(begin)


def nested_rows(stand, vm):
    """{row: (MiB/s, 0)} of one round; no CPU time, which is emulated."""
    cat = f"RVMRPC_PATH=/tmp {stand.tools}/rvmrpc cat files /srv/large > /dev/null"
    ways = {"memcpy in the guest, 1 MiB": lambda: memcpy_rate(vm),
            "read() in the guest": lambda: NESTED_MIB / seconds_of(vm, "dd if=/srv/large of=/dev/null bs=1M 2>/dev/null"),
            "rvmrpc cat": lambda: NESTED_MIB / seconds_of(stand.l1, cat)}
    found = {}
    for name, way in ways.items():
        found[name] = (way(), 0)
        print(f"    {name}: {found[name][0]:.1f} MiB/s", file=sys.stderr, flush=True)
    return found


def measure_nested(options, rounds):
    """The rounds of a guest in a nested host."""
    stand = make_stand("nested")
    try:
        stand.start_host()
        vm = stand.make_vm(smp=1, memory="700M", device_opts=f"socket=/tmp/files.sock{options}", append="rvmrpc.fs_allow=/srv",
                           extra=["-name", "files"]).boot()
        vm.guest.check("insmod /bench/rvmrpc_bench_guest.ko; mkdir -p /srv; "
                       f"dd if=/dev/urandom of=/srv/large bs=1M count={NESTED_MIB} 2>/dev/null", timeout=300)
        return [nested_rows(stand, vm) for _ in range(rounds)]
    finally:
        stand.stop()


def measure_tcg(options, rounds):
    """The rounds of a guest of this machine."""
    with tempfile.TemporaryDirectory(prefix="rvmrpc-bench-files-") as text:
        folder = pathlib.Path(text)
        with open(folder / "large", "wb") as f:
            f.write(os.urandom(MIB << 20))
        shutil.copy(BUILD / "bench/key", folder / "key")
        vm = boot(folder, options)
        try:
            wait_for(lambda: vm.query()["state"] == "connected", 30, "the driver")
            check_size(f"{RVMRPC} cat bench /srv/large", folder)
            return [rows(vm, folder) for _ in range(rounds)]
        finally:
            vm.stop()


def measure(name, options, rounds):
    """Prints a table."""
    found = (measure_nested if name.startswith("nested") else measure_tcg)(options, rounds)
    best = {row: (max(one[row][0] for one in found), min(one[row][1] for one in found)) for row in found[0]}
    copy = best["memcpy in the guest, 1 MiB"][0]
    print(f"{name}: best of {rounds}\n| way | MiB/s | of memcpy | ms of CPU a MiB |\n|---|---|---|---|")
    for row, (rate, cpu) in best.items():
        print(f"| {row} | {rate:.1f} | {rate / copy:.3f} | {cpu:.1f} |", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for setting in sys.argv[2:] or SETTINGS:
        measure(setting, SETTINGS[setting], int(sys.argv[1]) if len(sys.argv) > 1 else 3)
