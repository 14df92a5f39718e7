# SPDX-License-Identifier: GPL-2.0-or-later
"""The guests of a soak, one of each tier, their clients, and what befalls them."""
import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE), *(str(HERE.parent / name) for name in ("vm", "clients", "stock"))]

# pylint: disable=wrong-import-position
from harness import BUILD, VM, Timeout, wait_for  # noqa: E402
from harness.paths import QEMU_IMG  # noqa: E402
from ledger import Discrepancy, Ledger, append_line  # noqa: E402
from stand import Rvmrpcd, StockVM  # noqa: E402
import tools  # noqa: E402

PROGRAMS = BUILD / "tests" / "soak"
MEMORY = "192M"
# A guest that panics starts anew at once. Two share this machine's CPUs: no complaint that one waited for its turn.
APPEND = f"panic=-1 insmod=rvmrpc_ledger rvmrpc.allow=default,ledger.* {tools.PATIENT} nosoftlockup"
BYTES = 1 << 20
WINDOW = {"size": "16M", "request": BYTES, "response": BYTES}
# How long a guest may take to boot, and a fault to pass: of a machine with ten times the work that it has CPUs for.
PATIENCE_S = 300
SERVED_CALLS = 10
COMMAND_SLACK_MS = 20_000   # of a program that starts and ends with sanitizers, on a busy machine
OOPS = ("Oops", "general protection", "unable to handle", "KASAN", "UBSAN", "list_add corrupt", "list_del corrupt")


class CommandClient(threading.Thread):
    """The command rvmrpc, again and again, with a ledger of the same form."""

    def __init__(self, target, path, number, seed):
        super().__init__(daemon=True)
        self.target, self.path, self.number = target, path, number
        self.random = random.Random(seed)
        self.ending = threading.Event()
        self.pid = None

    def run(self):
        """Until told to end."""
        serial = self.number << 32
        while not self.ending.wait(self.random.uniform(0.2, 2)):
            serial += 1
            self._call(serial)

    def _call(self, serial):
        ms, size = self.random.choice((50, 500, 5000)), self.random.choice((0, 1, 7, 4000))
        head = serial.to_bytes(8, "little") + bytes(4) + size.to_bytes(4, "little")
        append_line(self.path, f"b {serial:x} {time.monotonic_ns()} {ms} 16\n")
        append_line(self.path, f"s {serial:x} {time.monotonic_ns()}\n")
        with subprocess.Popen([tools.RVMRPC, "call", self.target, "ledger", self.random.choice(("quick", "slow")),
                               f"hex:{head.hex()}", "-t", str(ms)],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=tools.environment()) as process:
            self.pid = process.pid
            out, err = process.communicate()
            self.pid = None
        word = "ok" if out[:8] == head[:8] and len(out) == 16 + size else "wrong-answer"
        if process.returncode:
            word = "closed"
        if any(text in err.decode(errors="replace") for text in tools.COMPLAINTS):
            word = "sanitizer:" + err.decode(errors="replace")[:60].replace(" ", "_").replace("\n", "_")
        told = self.path.with_name("guest.ledger").stat().st_size
        append_line(self.path, f"e {serial:x} {time.monotonic_ns()} {word} {told}\n")


class Tier:
    """A guest with its clients. Faults are its methods that FAULTS names, with their weights."""

    name = None
    FAULTS = {"panic": 1, "reboot": 1, "reset_loop": 1, "unload": 3, "unbind": 3, "suspend": 2, "stop": 4, "sigstop": 4,
              "oom": 1, "clock": 2, "client": 6}

    def __init__(self, folder, seed):
        self.dir = pathlib.Path(folder) / self.name
        self.dir.mkdir(parents=True)
        self.seed = seed
        self.random = random.Random(f"{seed} {self.name}")
        self.ledger = Ledger(self.dir / "guest.ledger")
        self.clients = {}       # number: (kind, process)
        self.next_number = 1
        self.vm = None
        self.faults = {}
        self.lock = threading.Lock()    # the ledger, against the line of progress

    # What a tier has

    def boot(self):
        """Starts self.vm."""
        raise NotImplementedError

    def target(self):
        """Where clients connect."""
        raise NotImplementedError

    def kinds(self):
        """Kinds of clients: of CLIENTS."""
        return ("flight", "one", "lib", "command")

    def _extra(self):
        return ["-chardev", f"file,id=ledger,path={self.ledger.guest_path},append=on",
                "-device", "isa-debugcon,iobase=0x5ed,chardev=ledger"]

    # Clients

    def start_client(self, kind):
        """One more, with a number of its own."""
        number, self.next_number = self.next_number, self.next_number + 1
        path = self.dir / f"client-{number}.ledger"
        seed = self.random.getrandbits(60)
        qmp = kind == "qmp"
        self.ledger.client(number, path, COMMAND_SLACK_MS if kind == "command" else 0, by_monitor=qmp)
        if kind == "command":
            process = CommandClient(self.target(), path, number, seed)
            process.start()
        else:
            words = {"flight": ["soak-flight", self.target(), 12], "one": ["soak-flight", self.target(), 1],
                     "lib": ["soak-lib", self.target()], "qmp": ["soak-lib", self.monitor() if qmp else ""]}[kind]
            command = [PROGRAMS / words[0], words[1], path, self.ledger.guest_path, number, seed, *words[2:]]
            with open(self.dir / f"client-{number}.log", "wb") as log:
                process = subprocess.Popen(  # pylint: disable=consider-using-with
                    [str(word) for word in command], cwd=self.dir, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True)
        self.clients[number] = (kind, process)

    def monitor(self):
        """QMP's socket for a client."""
        raise NotImplementedError

    def kill_client(self, number):
        """SIGKILL, in whatever it does; another comes in its place."""
        kind, process = self.clients.pop(number)
        process.kill()
        process.wait(10)
        self.ledger.killed(number)
        self.start_client(kind)

    def end_clients(self):
        """All of them, each after its last call."""
        for _, process in self.clients.values():
            if isinstance(process, CommandClient):
                process.ending.set()
            else:
                process.terminate()
        for kind, process in self.clients.values():
            if isinstance(process, CommandClient):
                process.join(20)
                if process.is_alive():
                    raise Discrepancy("the command does not end")
                continue
            try:
                status = process.wait(20)
            except subprocess.TimeoutExpired:
                raise Discrepancy(f"a client, {kind}, does not end") from None
            if status:
                raise Discrepancy(f"a client, {kind}, ended with {status}")

    # Life

    def start(self):
        """Boots the guest and starts its clients."""
        self.boot()
        for kind in self.kinds():
            self.start_client(kind)
        self.served()

    def check(self):
        """Of all ledgers and processes."""
        with self.lock:
            self.ledger.check()
        for number, (kind, process) in self.clients.items():
            if not isinstance(process, CommandClient) and process.poll() is not None:
                text = (self.dir / f"client-{number}.log").read_text(errors="replace")
                raise Discrepancy(f"client {number}, {kind}, ended with {process.returncode}: {text}")
        if self.vm.process.poll() is not None:
            raise Discrepancy(f"QEMU ended with {self.vm.process.returncode}: {self.vm.log_text()[-2000:]}")
        for line in self.vm.console().splitlines():
            if any(word in line for word in OOPS):
                raise Discrepancy(f"the guest's kernel: {line}")

    def served(self):
        """Waits until calls are answered again."""
        goal = self.ledger.count["ok"] + SERVED_CALLS

        def look():
            self.check()
            return self.ledger.count["ok"] >= goal
        try:
            wait_for(look, PATIENCE_S, "calls that are answered", interval=0.3)
        except Timeout as error:
            raise Discrepancy(f"{self.name}: {error}") from None

    def finish(self):
        """Ends all; the last look at the ledgers."""
        self.end_clients()
        with self.lock:
            self.ledger.finish()
        self.stop()

    def stop_hard(self):
        """After an error: the files stay."""
        with contextlib.suppress(Exception):
            self.vm.report()
        with contextlib.suppress(Exception):
            self.stop()

    def stop(self):
        """Whatever state it is in."""
        self.ledger.starved.ending.set()
        for _, process in self.clients.values():
            if isinstance(process, CommandClient):
                process.ending.set()
            elif process.poll() is None:
                process.kill()
                process.wait(10)
        if self.vm:
            self.vm.stop()

    def summary(self):
        """Figures."""
        return {**self.ledger.summary(), "faults": dict(sorted(self.faults.items()))}

    # Faults

    def choose(self):
        """The next fault's name."""
        names = list(self.FAULTS)
        return self.random.choices(names, [self.FAULTS[name] for name in names])[0]

    def fault(self, name):
        """Lets it happen, and waits until the guest is served again."""
        self.faults[name] = self.faults.get(name, 0) + 1
        getattr(self, "fault_" + name)()
        self.served()

    @contextlib.contextmanager
    def standing_still(self, by_monitor=False):
        """What happens to calls meanwhile is not held against their time."""
        excuse = self.ledger.excuse(by_monitor)
        try:
            yield
        finally:
            self.ledger.excused(excuse)

    def settle(self):
        """The guest's shell and driver are there."""
        self.vm.wait_ready(PATIENCE_S)
        self.vm.wait_state("connected", PATIENCE_S)

    def dies(self, line):
        """A line to the shell after which it is not there any more."""
        epoch = self.vm.query().get("epoch")
        self.vm.guest.sock.sendall(line.encode() + b"\n")
        wait_for(lambda: self.vm.query().get("epoch") != epoch, PATIENCE_S, "the end of the epoch", interval=0.05)
        self.settle()

    def fault_panic(self):
        """The guest's kernel panics, and boots anew."""
        self.dies("echo c > /proc/sysrq-trigger")

    def fault_reboot(self):
        """With the driver's farewell."""
        self.dies("reboot -f")

    def fault_reset_loop(self):
        """Resets, the next before the guest is up."""
        for _ in range(self.random.randint(1, 4)):
            self.vm.qmp.cmd("system_reset")
            time.sleep(self.random.uniform(0, 3))
        self.settle()

    def fault_unload(self):
        """The driver goes with calls in flight, and comes."""
        for _ in range(self.random.randint(1, 3)):
            self.vm.guest.check("until rmmod rvmrpc_ledger 2>/dev/null; do :; done; "
                                "rmmod rvmrpc && modprobe rvmrpc $(cat /etc/rvmrpc.params) && "
                                "insmod /lib/rvmrpc/rvmrpc_ledger.ko", timeout=PATIENCE_S)

    def fault_unbind(self):
        """The device leaves the driver under load."""
        self.vm.guest.check("cd /sys/bus/pci/drivers/rvmrpc; d=$(echo 0000:*); for i in 1 2 3; do "
                            "echo $d > unbind; echo $d > bind; done", timeout=PATIENCE_S)

    def fault_suspend(self):
        """S3, and wake up."""
        self.vm.qmp.take_events()
        self.vm.guest.sock.sendall(b"echo mem > /sys/power/state\n")
        with self.standing_still():
            self.vm.qmp.wait_event("SUSPEND", timeout=PATIENCE_S)
            time.sleep(self.random.uniform(0, 2))
            self.vm.qmp.cmd("system_wakeup")
        self.settle()

    def fault_stop(self):
        """Stopped by its monitor, and continued."""
        with self.standing_still(by_monitor=True):
            self.vm.qmp.cmd("stop")
            time.sleep(self.random.uniform(0, 3))
            self.vm.qmp.cmd("cont")

    def fault_sigstop(self):
        """All of QEMU stands still."""
        with self.standing_still():
            os.kill(self.vm.process.pid, signal.SIGSTOP)
            time.sleep(self.random.uniform(0, 3))
            os.kill(self.vm.process.pid, signal.SIGCONT)

    def fault_oom(self):
        """A process of the guest takes all memory, and is killed."""
        self.vm.guest.run("echo 1000 > /proc/self/oom_score_adj; tail /dev/zero", timeout=PATIENCE_S)

    def fault_clock(self):
        """The guest's clock jumps."""
        seconds = self.random.choice((-86400, -3600, -1, 1, 3600, 86400 * 365))
        self.vm.guest.check(f"date -s @$(($(date +%s) + {seconds}))", timeout=PATIENCE_S)

    def migration_ends(self, wanted=("completed",)):
        """Waits for self.vm's; how it ended."""
        def look():
            status = self.vm.qmp.cmd("query-migrate").get("status")
            return status if status in ("completed", "failed", "cancelled") else None
        status = wait_for(look, PATIENCE_S, "migration", interval=0.1)
        assert status in wanted, self.vm.qmp.cmd("query-migrate")
        return status

    def fault_client(self):
        """A client is killed."""
        self.kill_client(self.random.choice([n for n, (kind, _) in self.clients.items() if kind != "command"]))


class Tcg(Tier):
    """Our QEMU, TCG: the window is QEMU's. It migrates, and has a disk for snapshots."""

    name = "tcg"
    FAULTS = {**Tier.FAULTS, "sigkill": 1, "snapshot": 3, "background": 2, "migrate": 3, "postcopy": 2, "multifd": 2,
              "migrate_cancel": 3}

    def __init__(self, folder, seed):
        super().__init__(folder, seed)
        self.disk = self.dir / "disk.qcow2"
        subprocess.run([QEMU_IMG, "create", "-q", "-f", "qcow2", self.disk, "64M"], check=True)
        self.serial = 0

    def _vm(self, **options):
        self.serial += 1
        path = self.dir / f"vm-{self.serial}"
        return VM(memory=MEMORY, append=APPEND, rundir=path,
                  device_opts=f"socket={path}/calls.sock,slots=4,request-bytes={BYTES},response-bytes={BYTES}",
                  extra=[*self._extra(), "-name", "guest=soak-tcg,debug-threads=on",
                         "-chardev", "socket,id=calls,path=monitor.sock,server=on,wait=off",
                         "-mon", "chardev=calls,mode=control",
                         "-blockdev", f"driver=file,filename={self.disk},node-name=file0",
                         "-blockdev", "driver=qcow2,file=file0,node-name=disk0",
                         "-device", "virtio-blk-pci,drive=disk0"], **options)

    def _take(self, vm):
        """Clients find this VM from now on."""
        self.vm = vm
        self.ledger.starved.watch(vm.process.pid, "rvmrpc")
        for link, name in ((self.target(), "calls.sock"), (self.monitor(), "monitor.sock")):
            new = link.with_suffix(".new")
            new.symlink_to(vm.dir / name)
            new.rename(link)

    def boot(self):
        vm = self._vm().start()
        self._take(vm)
        self.settle()

    def target(self):
        return self.dir / "calls.sock"

    def monitor(self):
        return self.dir / "monitor.sock"

    def kinds(self):
        return (*super().kinds(), "qmp")

    def fault_sigkill(self):
        """QEMU is killed; another one starts."""
        with self.standing_still():
            # The kernel takes its time to end a process; only then its sockets close.
            self.vm.process.kill()
            self.vm.process.wait(20)
        self.vm.stop()
        self.boot()

    def fault_snapshot(self):
        """savevm, and some time later loadvm."""
        with self.standing_still(by_monitor=True), self.ledger.saving():
            answer = self.vm.qmp.hmp("savevm soak", timeout=PATIENCE_S)
        assert not answer, answer
        time.sleep(self.random.uniform(0, 3))
        with self.standing_still(by_monitor=True):
            answer = self.vm.qmp.hmp("loadvm soak", timeout=PATIENCE_S)
        with self.lock:
            self.ledger.loaded()
        assert not answer, answer
        self.settle()

    def _capabilities(self, vm, **states):
        names = ("background-snapshot", "postcopy-ram", "multifd")
        vm.qmp.cmd("migrate-set-capabilities", capabilities=[
            {"capability": name, "state": states.get(name.replace("-", "_"), False)} for name in names])

    def fault_background(self):
        """A snapshot while the guest runs."""
        with self.standing_still(by_monitor=True):
            self._capabilities(self.vm, background_snapshot=True)
            self.vm.qmp.cmd("migrate", uri="exec:cat > /dev/null")
            self.migration_ends()
        self._capabilities(self.vm)

    def _migrate(self, **capabilities):
        target = self._vm(incoming="defer").start()
        source = self.vm
        try:
            for vm in (source, target):
                self._capabilities(vm, **capabilities)
            target.qmp.cmd("migrate-incoming", uri=f"unix:{target.dir}/migration.sock")
            with self.standing_still(by_monitor=True):
                source.qmp.cmd("migrate", uri=f"unix:{target.dir}/migration.sock")
                if "postcopy_ram" in capabilities:
                    time.sleep(self.random.uniform(0, 0.5))
                    source.qmp.cmd("migrate-start-postcopy")
                self.migration_ends()
                self._take(target)
        except BaseException:
            target.report()
            target.stop()
            raise
        source.stop()
        # QEMU crashes in savevm with multifd set.
        self._capabilities(target)
        self.settle()

    def fault_migrate(self):
        """To another QEMU."""
        self._migrate()

    def fault_postcopy(self):
        """The same; pages follow the guest."""
        self._migrate(postcopy_ram=True)

    def fault_multifd(self):
        """The same by several connections."""
        self._migrate(multifd=True)

    def fault_migrate_cancel(self):
        """Begun, and cancelled."""
        with self.standing_still(by_monitor=True):
            self.vm.qmp.cmd("migrate-set-parameters", {"max-bandwidth": 4 << 20})
            self.vm.qmp.cmd("migrate", uri="exec:cat > /dev/null")
            time.sleep(self.random.uniform(0, 2))
            self.vm.qmp.cmd("migrate_cancel")
            done = self.migration_ends(("completed", "cancelled"))
            self.vm.qmp.cmd("migrate-set-parameters", {"max-bandwidth": 1 << 30})
            if done == "completed":
                self.vm.qmp.cmd("cont")


class Stock(Tier):
    """Debian's QEMU, TCG, beside rvmrpcd, whose the window is."""

    name = "stock"
    FAULTS = {**Tier.FAULTS, "sigkill": 1, "daemon_kill": 4, "daemon_restart": 3, "daemon_sigstop": 4}

    def __init__(self, folder, seed):
        super().__init__(folder, seed)
        (self.dir / "daemon").mkdir()
        self.daemon = Rvmrpcd("soak", folder=self.dir / "daemon", window=WINDOW)
        self.serial = 0

    def _start_daemon(self):
        self.daemon.start()
        self.ledger.starved.watch(self.daemon.process.pid)

    def _vm(self, **options):
        self.serial += 1
        return StockVM(self.daemon, "soak", rundir=self.dir / f"vm-{self.serial}",
                       **{"memory": MEMORY, "append": APPEND, "extra": self._extra(), **options})

    def boot(self):
        if self.daemon.process is None:
            self._start_daemon()
        self.vm = self._vm(version=self.random.choice(("7.2", "10.0"))).start()
        self.settle()

    def target(self):
        return self.daemon.socket("soak")

    def check(self):
        super().check()
        if self.daemon.process is not None and self.daemon.process.poll() is not None:
            raise Discrepancy(f"rvmrpcd ended: {self.daemon.log_text()[-3000:]}")

    def stop(self):
        super().stop()
        self.daemon.close()

    fault_sigkill = Tcg.fault_sigkill

    def _daemon_again(self, end):
        epoch = self.vm.query()["epoch"]
        with self.standing_still():
            end()
        time.sleep(self.random.uniform(0, 1))
        self._start_daemon()
        wait_for(lambda: self.vm.query().get("epoch") not in (None, epoch), PATIENCE_S, "the driver's hello")

    def fault_daemon_kill(self):
        """SIGKILL; its store keeps the windows."""
        self._daemon_again(self.daemon.kill)

    def fault_daemon_restart(self):
        """As systemd does it."""
        self._daemon_again(self.daemon.stop)

    def fault_daemon_sigstop(self):
        """It stands still."""
        with self.standing_still():
            os.kill(self.daemon.process.pid, signal.SIGSTOP)
            time.sleep(self.random.uniform(0, 3))
            os.kill(self.daemon.process.pid, signal.SIGCONT)


TIERS = {tier.name: tier for tier in (Tcg, Stock)}


def write_summary(path, data):
    """As JSON, "-" is standard output."""
    text = json.dumps(data, indent=1) + "\n"
    if str(path) == "-":
        sys.stdout.write(text)
    else:
        pathlib.Path(path).write_text(text, encoding="utf-8")
