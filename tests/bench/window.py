# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of guests that have QEMU's ivshmem and nothing of our QEMU: by a client that is itself the host's end
of a window, and by rvmrpcd's socket.
"""
import json
import shlex

import rows
from stand import PARAMETERS, NoAnswer, Timeout, settle, wait_for

SLOTS, BYTES, SIZE = 4, 1 << 20, 1 << 24
# Between two calls by the daemon are four wake-ups, of 0.1 to 1 ms each on an emulated host: more than the default's 200 us.
SPIN_US = {"nested": 3000}


class Client:
    """The program, with a pipe to it; it stays until the block ends."""

    def __init__(self, stand):
        self.stand = stand
        self.base = f"{stand.folder}/window"
        self.socket = f"{self.base}.sock"
        self.lines = 0

    def __enter__(self):
        cpus = " ".join(str(cpu) for cpu in self.stand.cpus)
        self.stand.sh(f"rm -f {self.base}.*; mkfifo {self.base}.in; "
                      f"({self.stand.bench}/bench_window {self.socket} {cpus} {SLOTS} {BYTES} {SIZE} "
                      f"<{self.base}.in >{self.base}.out 2>&1 &) ; (exec 1>{self.base}.in; "
                      f"setsid sh -c 'echo $$ >{self.base}.pid; exec sleep 100000' &)")
        self.answer()
        return self

    def __exit__(self, *_):
        self.stand.sh(f"kill $(cat {self.base}.pid)")

    def answer(self, timeout=60):
        """The next line that it prints."""
        self.lines += 1

        def look():
            text = self.stand.sh(f"sed -n {self.lines}p {self.base}.out")
            return text if text.endswith("\n") else None
        try:
            return json.loads(wait_for(look, timeout, "an answer of bench_window", interval=0.1))
        except (Timeout, ValueError) as error:
            raise NoAnswer(f"bench_window: {error}") from None

    def command(self, text, timeout=60):
        """One command's answer, whose calls were all answered with OK."""
        self.stand.sh(f"echo {shlex.quote(text)} >{self.base}.in")
        answer = self.answer(timeout)
        if answer.get("status"):
            raise NoAnswer(f"bench_window {text}: status {answer['status']} after {len(answer['ns'])}")
        return answer


def start_guest(stand, client):
    """A guest of that client, with the driver connected."""
    vm = stand.make_stock_vm(smp=1, memory="256M", extra=[
        "-name", "window,debug-threads=on", "-chardev", f"socket,path={client.socket},id=window",
        "-device", "ivshmem-doorbell,vectors=1,chardev=window"]).boot()
    vm.guest.check("modprobe rvmrpc")
    if not client.command("wait 10000")["connected"]:
        raise NoAnswer("the guest's driver did not connect")
    stand.pin_vm(vm)
    settle(1)
    return vm


def client_rows(stand, others):
    """The client that maps the window, and its limit on the same two CPUs."""
    client = others.enter_context(Client(stand))
    vm = start_guest(stand, client)
    others.callback(vm.stop)

    def row(name, command, calls, warm=0, **how):
        def take(n):
            if warm:
                client.command(command.format(n=warm))
            answer, count = stand.counted(vm, lambda: client.command(command.format(n=n)))
            return answer["ns"], {**count, "irqs": answer["kicks"], "rings": answer["rings"]}
        return rows.Row(f"window: {name}", take, calls, **how)
    often = {"blocks": rows.BLOCKS, "burst": rows.BURST}
    return [row("S, two threads that spin", "spin {n}", rows.BURSTS, **often),
            # The driver learns to spin in the first ones.
            row("null in a burst", "null {n}", rows.BURSTS, 20, **often),
            *[row(f"answer in place, {size} bytes", f"echo {size} {{n}}", 40, 20) for size in rows.IN_PLACE],
            row("null, both asleep", f"sleepy {{n}} {rows.LONE_MS}", 40)]


def spin_us(stand):
    """How long either side spins, at most."""
    return SPIN_US.get(stand.accel, 200)


class Daemon:
    """rvmrpcd for one VM, until the block ends."""

    def __init__(self, stand):
        self.stand = stand
        self.base = f"{stand.folder}/rvmrpcd"

    def __enter__(self):
        self.stand.sh(f"rm -rf {self.base}; mkdir -p {self.base}/vms; "
                      f"printf '[daemon]\\nivshmem-dir={self.base}\\nsocket-dir={self.base}\\nkernel=off\\n"
                      f"vm-dir={self.base}/vms\\n[window]\\nspin-us={spin_us(self.stand)}\\n' >{self.base}/conf; "
                      f"({self.stand.first_cpu()}{self.stand.tools}/rvmrpcd --config {self.base}/conf --vm name=web >{self.base}/log 2>&1 & "
                      f"echo $! >{self.base}/pid)")
        wait_for(lambda: self.stand.sh(f"test -S {self.base}/web.sock && echo yes || true"), 20,
                 "rvmrpcd's socket", interval=0.1)
        return self

    def __exit__(self, *_):
        self.stand.sh(f"kill $(cat {self.base}/pid)")


def start_stock(stand, daemon):
    """A guest of rvmrpcd that has qemu-ga, too."""
    vm = stand.make_stock_vm(smp=1, memory="256M", extra=[
        "-name", "stock,debug-threads=on", "-chardev", f"socket,path={daemon.base}/web.ivshmem,id=window",
        "-device", "ivshmem-doorbell,vectors=1,chardev=window", "-device", "virtio-serial-pci,id=serial",
        "-chardev", f"socket,id=qga,path={daemon.base}/qga.sock,server=on,wait=off",
        "-device", "virtserialport,bus=serial.0,chardev=qga,name=org.qemu.guest_agent.0"]).boot()
    vm.guest.check(f"modprobe rvmrpc; echo {spin_us(stand)} >{PARAMETERS}/spin_us; mkdir -p /var/run /var/log")
    stand.start_agent(vm)
    for row, target in (("socket-null", "web.sock"), ("qga-ping", "qga.sock")):
        stand.wait_peer(row, f"{daemon.base}/{target}")
    stand.pin_vm(vm)
    settle(1)
    return vm


def daemon_rows(stand, others):
    """By rvmrpcd's socket, and qemu-ga in the same guest."""
    daemon = others.enter_context(Daemon(stand))
    vm = start_stock(stand, daemon)
    others.callback(vm.stop)
    # What rvmrpcd rings and interrupts the daemon alone knows.
    count = tuple(key for key in rows.COUNTED if key not in ("irqs", "rings"))
    return [rows.client_row(stand, name, row, f"{daemon.base}/{target}", calls, 3, vm, counted=count)
            for name, row, target, calls in (
                ("rvmrpcd: null", "socket-null", "web.sock", 100),
                ("rvmrpcd: meminfo", "socket-meminfo", "web.sock", 100),
                ("rvmrpcd's guest: QGA open, read, close /proc/meminfo", "qga-read", "qga.sock", 30))]
