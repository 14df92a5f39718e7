#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Each fault once, with a time limit, under the soak's load: every call is accounted for, the guest is served again.

A fault that the soak has is its tier's own method. Here are those beside it that need a machine of another kind, or the
host's limits.
"""
import atexit
import os
import pathlib
import resource
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

# pylint: disable=wrong-import-position
from tiers import APPEND, PATIENCE_S, PROGRAMS, WINDOW, Discrepancy, Rvmrpcd, Stock, Tcg  # noqa: E402
from harness import BUILD, case, comment, kernel_files, main, wait_for  # noqa: E402
from harness.tap import SHARED  # noqa: E402

FOLDER = tempfile.mkdtemp(prefix="rvmrpc-faults-")
FAILED = []         # then the folder stays: ledgers, logs, cores
ROUNDS = 20         # migrations in a row
LIMIT_S = 240
NOFILE = 12         # descriptors that are left to a server
AS_BYTES = 1 << 19  # likewise memory
TIERS = {}


def stand(cls):
    """The tier of that class; a failed case ends it, and the next begins a new one."""
    tier = TIERS.get(cls)
    if tier is None or tier.vm not in SHARED.values():
        for other in list(TIERS):
            end(other)
        folder = pathlib.Path(tempfile.mkdtemp(dir=FOLDER))
        tier = TIERS[cls] = cls(folder, cls.name)
        tier.start()
        SHARED[cls.name] = tier.vm
    return tier


def end(cls):
    """Ends a tier of a failed case, if it is there."""
    tier = TIERS.pop(cls, None)
    FAILED.append(cls)
    if tier:
        tier.stop_hard()
        SHARED.pop(cls.name, None)


def befalls(cls, fault, times=1):
    """The fault, so many times."""
    tier = stand(cls)
    try:
        for _ in range(times):
            tier.fault(fault)
    except BaseException:
        end(cls)
        raise
    SHARED[cls.name] = tier.vm
    count = tier.ledger.count
    comment(f"{count['ended']} calls so far, {count['ok']} answered, worst {tier.ledger.worst / 1e6:.0f} ms late")


def balances(cls):
    """The last case of a tier: all its clients end, and so do its calls."""
    tier = stand(cls)
    try:
        tier.finish()
    except BaseException:
        end(cls)
        raise
    TIERS.pop(cls)
    SHARED.pop(cls.name)
    comment(str(tier.ledger.summary()))


def register(cls, faults):
    """A case for each fault, {its name: how often}, and one that sums up."""
    for name, times in faults.items():
        text = getattr(cls, "fault_" + name).__doc__.split("\n", maxsplit=1)[0].rstrip(".")
        many = f", {times} times in a row" if times > 1 else ""
        case(f"{cls.name}, {name}: {text}{many}", timeout=LIMIT_S * (4 if times > 1 else 1),
             cls=cls, fault=name, times=times)(befalls)
    case(f"{cls.name}: lost 0, doubled 0, late 0", timeout=LIMIT_S, cls=cls)(balances)


class Hotplug(Tcg):
    """A machine whose CPUs come and go, and to whose memory more comes."""

    name = "hotplug"

    ONLINE = "/sys/devices/system/cpu/cpu1/online"

    def _vm(self, **options):
        vm = super()._vm(**options)
        vm.options.update(smp=2, memory="256M,slots=4,maxmem=1G")
        return vm

    def fault_cpu(self):
        """The second CPU is switched off and on, and both are the server's in turn."""
        for number in (1, 0):
            self.vm.guest.check(f"echo {number} > /sys/module/rvmrpc/parameters/cpu; for i in 1 2 3 4; do "
                                f"echo 0 > {self.ONLINE} && echo 1 > {self.ONLINE} || exit 1; done", timeout=PATIENCE_S)
            self.served()

    def fault_memory(self):
        """128 MiB come, and are used."""
        qmp, shell = self.vm.qmp, self.vm.guest
        before = int(shell.check("awk '/MemTotal/ { print $2 }' /proc/meminfo"))
        qmp.cmd("object-add", qom_type="memory-backend-ram", id="more", size=128 << 20)
        qmp.cmd("device_add", driver="pc-dimm", id="dimm", memdev="more")

        def more():
            shell.run("cd /sys/devices/system/memory; "
                      "for f in $(grep -l offline memory*/state); do echo online > $f; done")
            return int(shell.check("awk '/MemTotal/ { print $2 }' /proc/meminfo")) > before + (100 << 10)
        wait_for(more, PATIENCE_S, "the guest's view of it", interval=0.5)
        self.served()


class Crash(Stock):
    """A guest with a crash kernel."""

    name = "crash"

    def _vm(self, **options):
        share = self.dir / "share"
        share.mkdir(exist_ok=True)
        for name, file in zip(("vmlinuz", "initramfs"), kernel_files("6.12")):
            if not (share / name).exists():
                shutil.copy(file, share / name)
        return super()._vm(memory="640M", append=f"{APPEND} crashkernel=256M", share=share, **options)

    def fault_kdump(self):
        """The guest panics, and its crash kernel's driver takes the window over, with the devices as they were."""
        words = "$(sed 's/crashkernel=[^ ]*//' /proc/cmdline) nr_cpus=1 irqpoll reset_devices"
        self.vm.guest.check("mount -t 9p -o trans=virtio share /mnt && "
                            f"kexec-file -p /mnt/vmlinuz /mnt/initramfs \"{words}\"", timeout=PATIENCE_S)
        self.vm.qmp.take_events()
        self.dies("echo c > /proc/sysrq-trigger")
        assert self.vm.guest.run("test -e /proc/vmcore")[0] == 0, "this is no crash kernel"
        assert "RESET" not in {event["event"] for event in self.vm.qmp.take_events()}


class Limits(Stock):
    """rvmrpcd without sanitizers, which suffer no limit of memory; the host lets it have no more."""

    name = "limits"

    def __init__(self, folder, seed):
        super().__init__(folder, seed)
        self.daemon.program = BUILD / "host-tools" / "rvmrpcd"
        self.jump = self.dir / "jump"
        self.jump.write_text("0", encoding="ascii")

    def _start_daemon(self):
        os.environ.update(LD_PRELOAD=str(PROGRAMS / "libsoak-jump.so"), SOAK_JUMP=str(self.jump))
        try:
            super()._start_daemon()
        finally:
            del os.environ["LD_PRELOAD"]

    def fault_clock_of_host(self):
        """The host's time of day jumps, forth and back."""
        for seconds in (86400, -86400 * 400, 0):
            self.jump.write_text(str(seconds), encoding="ascii")
            self.served()
        assert "soak-jump" in pathlib.Path(f"/proc/{self.daemon.process.pid}/maps").read_text(encoding="ascii")

    def _limit(self, what, value):
        pid = self.daemon.process.pid
        old = resource.prlimit(pid, what)
        resource.prlimit(pid, what, (value, old[1]))
        return old

    def fault_fds(self):
        """Its descriptors run out; connections that there are go on, others come when there is room."""
        used = max(int(name) for name in os.listdir(f"/proc/{self.daemon.process.pid}/fd")) + 1
        old = self._limit(resource.RLIMIT_NOFILE, used)
        clients = []
        try:
            # More than it can take: they wait in the listener's queue, and are no reason to spin.
            clients = [self.daemon.client("soak") for _ in range(NOFILE)]
            before, start = self._cpu_s(), time.monotonic()
            self.served()
            comment(f"{self._cpu_s() - before:.1f} s of CPU in {time.monotonic() - start:.1f} s")
        finally:
            resource.prlimit(self.daemon.process.pid, resource.RLIMIT_NOFILE, old)
            for client in clients:
                client.close()

    def _cpu_s(self):
        text = pathlib.Path(f"/proc/{self.daemon.process.pid}/stat").read_text(encoding="ascii")
        words = text.rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def fault_memory(self):
        """It gets no more memory: it ends, as GLib's programs do, and begins again with its windows."""
        boot = self.vm.guest.check("cat /proc/sys/kernel/random/boot_id")
        epoch = self.vm.query()["epoch"]
        pages = int(pathlib.Path(f"/proc/{self.daemon.process.pid}/statm").read_text(encoding="ascii").split()[0])
        old = self._limit(resource.RLIMIT_AS, pages * resource.getpagesize() + AS_BYTES)
        try:
            status = self.daemon.process.wait(20)
            comment(f"rvmrpcd ended with {status}: {self.daemon.log_text().splitlines()[-1][:120]}")
            assert status in (-signal.SIGABRT, -signal.SIGTRAP), status
            self._start_daemon()
            wait_for(lambda: self.vm.query().get("epoch") not in (None, epoch), PATIENCE_S, "the driver's hello")
        except Exception:  # pylint: disable=broad-except
            if self.daemon.process.poll() is None:
                comment("it lives on with what it has")
                resource.prlimit(self.daemon.process.pid, resource.RLIMIT_AS, old)
            else:
                raise
        assert self.vm.guest.check("cat /proc/sys/kernel/random/boot_id") == boot


class Moving(Stock):
    """Debian's QEMU, that migrates between hosts with a daemon each."""

    VERSION = None

    def __init__(self, folder, seed):
        super().__init__(folder, seed)
        (self.dir / "other").mkdir()
        self.other = Rvmrpcd("soak", folder=self.dir / "other", window=WINDOW)

    def target(self):
        return self.dir / "calls.sock"

    def _take(self, vm):
        self.vm = vm
        link = self.target()
        link.unlink(missing_ok=True)
        link.symlink_to(self.daemon.socket("soak"))
        self.ledger.starved.watch(self.daemon.process.pid)

    def _vm(self, **options):
        return super()._vm(**{**options, "version": self.VERSION, "master": True})

    def boot(self):
        super().boot()
        self.other.start()
        self._take(self.vm)

    def fault_migrate(self):
        """To a QEMU of the other daemon."""
        source, epoch = self.vm, self.vm.query()["epoch"]
        self.daemon, self.other = self.other, self.daemon
        target = self._vm(incoming="unix:migration.sock").start()
        source.qmp.cmd("migrate", uri=f"unix:{target.dir}/migration.sock")
        self.migration_ends()
        self._take(target)
        source.stop()
        self.settle()
        assert self.vm.query()["epoch"] != epoch

    def check(self):
        super().check()
        if self.other.process and self.other.process.poll() is not None:
            raise Discrepancy(f"the other rvmrpcd ended: {self.other.log_text()[-3000:]}")

    def stop(self):
        super().stop()
        self.other.close()


class Moving7(Moving):
    """Of Debian 12."""

    name, VERSION = "moving-7.2", "7.2"


class Moving10(Moving):
    """Of Debian 13."""

    name, VERSION = "moving-10.0", "10.0"


register(Tcg, {name: ROUNDS if name in ("migrate", "postcopy", "multifd") else 1 for name in Tcg.FAULTS})
register(Stock, dict.fromkeys(Stock.FAULTS, 1))
register(Moving7, {"migrate": ROUNDS})
register(Moving10, {"migrate": ROUNDS})
register(Hotplug, {"cpu": 1, "memory": 1})
register(Crash, {"kdump": 1})
register(Limits, {"fds": 1, "clock_of_host": 1, "memory": 1})

if __name__ == "__main__":
    atexit.register(lambda: None if FAILED else shutil.rmtree(FOLDER, ignore_errors=True))
    # A panic is no complaint here; a tier looks at its guest's console itself.
    main(guests=False)
