# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests under a QEMU that knows nothing of us, and the daemon that serves their windows.

    with Rvmrpcd("web") as daemon, StockVM(daemon, "web", version="7.2") as vm:
        daemon.ok("meminfo", "web", "--json")

StockVM.query() asks the daemon, so that all of VM's waits for states work.
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "vm"), str(HERE.parent / "clients")]

# pylint: disable=wrong-import-position
from fdstore import FDStore  # noqa: E402
from harness import BUILD, VM, Timeout, wait_for  # noqa: E402
from harness.paths import connect_unix  # noqa: E402
from harness.sock import EVENT, SocketClient  # noqa: E402
import tools  # noqa: E402

# Debian 12's package, and Debian 13's as scripts/fetch-qemu unpacks it.
QEMUS = {"7.2": pathlib.Path("/usr/bin/qemu-system-x86_64"),
         "10.0": BUILD / "qemu-10.0" / "qemu-system-x86_64"}
TOOLS = BUILD / "host-tools"
UUID = "52564d52-0000-4000-9000-00000000{:04x}"
WINDOW = {"size": "512K", "slots": 4, "request": "4K", "response": "64K", "spin-us": 200}
# Of a call that must be answered: the command's own second is less than a busy machine may take for a guest's turn.
PATIENT_MS = 20000
# Which a daemon under sanitizers says when it is not sane.
COMPLAINTS = ("Sanitizer", "runtime error", "CRITICAL", "Assertion")


def daemon_file():
    """The daemon with sanitizers when it is built, else without."""
    for name in ("rvmrpcd-asan", "rvmrpcd"):
        if (TOOLS / name).exists():
            return TOOLS / name
    raise FileNotFoundError(f"no rvmrpcd in {TOOLS}")


def write_config(folder, names, window=None, inner=None):
    """A daemon's configuration and folders: {name: uuid}. inner is the folder as the daemon sees it."""
    folder, inner = pathlib.Path(folder), inner or folder
    for name in ("ivshmem", "sockets", "vms"):
        (folder / name).mkdir(exist_ok=True)
    lines = [f"[daemon]\nivshmem-dir={inner}/ivshmem\nsocket-dir={inner}/sockets\nvm-dir={inner}/vms\n"
             "socket-mode=0660\n\n[window]\n"]
    lines += [f"{key}={value}\n" for key, value in {**WINDOW, **(window or {})}.items()]
    (folder / "rvmrpcd.conf").write_text("".join(lines), encoding="utf-8")
    for name, uuid in names.items():
        write_vm(folder, name, uuid)


def write_vm(folder, name, uuid):
    """One VM's file."""
    (pathlib.Path(folder) / "vms" / f"{name}.conf").write_text(
        f"[vm]\nname={name}\nuuid={uuid}\n", encoding="utf-8")


class Rvmrpcd:
    """A daemon for the VMs of these names, in a folder of its own; with a store of descriptors."""

    def __init__(self, *names, window=None, folder=None, store=True, program=None):
        self.own_dir = folder is None
        self.dir = pathlib.Path(folder or tempfile.mkdtemp(prefix="rvmrpcd-")).resolve()
        self.uuids = {name: UUID.format(number) for number, name in enumerate(names, 1)}
        write_config(self.dir, self.uuids, window)
        self.store = FDStore(self.dir) if store else None
        self.program = program
        self.process = None
        self.starts = 0
        self.keep = False

    # What is where

    def ivshmem(self, name):
        """Where QEMU connects."""
        return self.dir / "ivshmem" / f"{name}.ivshmem"

    def socket(self, name):
        """Where clients connect."""
        return self.dir / "sockets" / f"{name}.sock"

    @property
    def sockets(self):
        """The folder of the clients' sockets."""
        return self.dir / "sockets"

    def log_text(self):
        """What it has printed, over all its starts."""
        path = self.dir / "rvmrpcd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # Life

    def start(self):
        """Starts it and waits until it serves all its VMs."""
        self.starts += 1
        command = [self.program or daemon_file(), "--config", self.dir / "rvmrpcd.conf"]
        env = dict(os.environ, LC_ALL="C.UTF-8", G_DEBUG="fatal-criticals",
                   ASAN_OPTIONS="detect_leaks=1:abort_on_error=0", UBSAN_OPTIONS="print_stacktrace=1")
        with open(self.dir / "rvmrpcd.log", "ab") as log:
            options = {"cwd": self.dir, "stdin": subprocess.DEVNULL, "stdout": log, "stderr": log,
                       "start_new_session": True}
            if self.store:
                self.store.clear()
                self.process = self.store.popen(command, env, **options)
            else:
                env.pop("NOTIFY_SOCKET", None)
                self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                    command, env=env, **options)
        (self.dir / "rvmrpcd.pid").write_text(f"{self.process.pid}\n", encoding="ascii")
        wait_for(self._serves, 20, "rvmrpcd's sockets")
        return self

    def _serves(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"rvmrpcd ended with {self.process.returncode}: {self.log_text()[-3000:]}")
        try:
            for name in self.uuids:
                connect_unix(self.socket(name)).close()
                # Not the ivshmem server: one connection is one VM.
                os.stat(self.ivshmem(name))
        except (FileNotFoundError, ConnectionError):
            return False
        return True

    def stop(self, wanted=0):
        """Ends it as systemd does, and looks at its exit status and at what it printed."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            status = "no end within 20 s"
        self.process = None
        bad = [line for line in self.log_text().splitlines() if any(word in line for word in COMPLAINTS)]
        assert status == wanted and not bad, (status, bad, self.log_text()[-3000:])

    def kill(self):
        """Ends it by SIGKILL, as the kernel does when memory is short."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def restart(self):
        """systemctl restart: it ends and starts again, with the descriptors that it had stored."""
        self.stop()
        return self.start()

    def add(self, name):
        """One more VM, while it runs."""
        self.uuids[name] = UUID.format(len(self.uuids) + 1)
        write_vm(self.dir, name, self.uuids[name])
        if self.process is not None:
            self.process.send_signal(signal.SIGHUP)
            wait_for(self._serves, 10, f"rvmrpcd's sockets of {name}")

    def close(self):
        """Ends it and removes its folder."""
        try:
            self.stop()
        finally:
            if self.store:
                self.store.close()
            if self.own_dir and not self.keep:
                shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        if kind is not None:
            self.report()
            if self.process is not None:
                self.process.kill()
                self.process.wait()
                self.process = None
        self.close()

    def report(self):
        """Prints the end of its log as comments, and keeps the files."""
        self.keep = True
        print(f"# files kept in {self.dir}")
        for line in self.log_text().splitlines()[-30:]:
            print(f"# rvmrpcd: {line}")

    # Clients

    def client(self, name, timeout=10.0):
        """A connection to a VM."""
        return SocketClient(self.socket(name), timeout)

    def query(self, name):
        """What the daemon says of a VM: as query-rvmrpc of our QEMU."""
        with self.client(name) as client:
            return client.query()["rvmrpc"]

    def rvmrpc(self, *args, **more):
        """The command rvmrpc, which sees the VMs of this daemon only."""
        return tools.rvmrpc(*args, folder=self.sockets, **more)

    def ok(self, *args, **more):
        """As rvmrpc(), of what must succeed, however long the guest takes."""
        return tools.ok("-t", PATIENT_MS, *args, folder=self.sockets, **more)

    def json(self, *args, **more):
        """The command's answer as JSON."""
        return self.ok(*args, "--json", **more).json()


class StockVM(VM):
    """A guest of one of Debian's QEMUs, whose window is a daemon's.

    master= is the device's: with it, the VM can be saved and migrated. foreign= adds devices of others.
    """

    def __init__(self, daemon, name, *, version="7.2", master=False, foreign=(), extra=(), **options):
        self.daemon = daemon
        self.name = name
        self.version = version
        self.master = master
        super().__init__(options.pop("kernel", "6.12"), qemu=QEMUS[version],
                         extra=[*self._identity(), *foreign, *extra], **options)

    def _identity(self):
        uuid = self.daemon.uuids.get(self.name) if self.daemon else None
        return ["-name", f"guest={self.name},debug-threads=on", *(["-uuid", uuid] if uuid else [])]

    def _window_socket(self):
        """By QEMU's path."""
        return self.daemon.ivshmem(self.name)

    def _device_args(self):
        wanted = self.options["device"]
        self.options["device"] = False
        args = super()._device_args()
        self.options["device"] = wanted
        if wanted:
            device = ["ivshmem-doorbell,vectors=1,chardev=iv", "master=on" if self.master else "",
                      self.options["device_opts"]]
            args += ["-chardev", f"socket,id=iv,path={self._window_socket()}",
                     "-device", ",".join(word for word in device if word)]
        return args

    def query(self):
        """What the daemon says of this VM."""
        return self.daemon.query(self.name)


class Served(StockVM):
    """A guest with a daemon of its own: vm.daemon. Of other names it serves VMs that are not there yet."""

    def __init__(self, name="web", *, more=(), window=None, **options):
        super().__init__(Rvmrpcd(name, *more, window=window), name, **options)

    def start(self):
        """The daemon first: without it QEMU does not start."""
        if self.daemon.process is None:
            self.daemon.start()
        return super().start()

    def stop(self):
        """Ends both; what is wrong with the daemon fails the file's last case."""
        super().stop()
        try:
            self.daemon.close()
        except AssertionError as error:
            VM.complaints.append(f"rvmrpcd: {error}")

    def report(self, _error=None):
        """Of both."""
        super().report()
        self.daemon.report()


def wait_event(client, name, timeout=30.0):
    """The data of the first event of that name on a connection that has subscribed."""
    deadline = time.monotonic() + timeout
    while True:
        frame = client.recv(max(0.1, deadline - time.monotonic()))
        event = json.loads(frame.payload) if frame.kind == EVENT else {}
        if event.get("event") == name:
            return event["data"]


class Load:
    """Clients that call without a pause, each on a connection of its own, which comes back when it breaks.

    Every call must end with a status or with the connection; .statuses counts them.
    """

    def __init__(self, daemon, name, clients=8, module=0, procedure=0, timeout=5000):
        self.daemon, self.name = daemon, name
        self.call = (module, procedure, b"", timeout)
        self.statuses = {}
        self.longest = 0.0
        self.errors = []
        self.ending = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind, *_):
        self.ending.set()
        for thread in self.threads:
            thread.join(30)
        if kind is None:
            assert not any(thread.is_alive() for thread in self.threads), "a call does not end"
            assert not self.errors, self.errors[0]

    def count(self, word):
        """How many ended so: ok, another status, or closed."""
        with self.lock:
            return self.statuses.get(word, 0)

    def forget_longest(self):
        """.longest counts from here."""
        with self.lock:
            self.longest = 0.0

    def wait_more(self, word="ok", more=50, timeout=20.0):
        """Waits until so many more have ended so."""
        goal = self.count(word) + more
        wait_for(lambda: self.count(word) >= goal, timeout, f"{more} more calls: {word}")

    def _note(self, word, seconds=0.0):
        with self.lock:
            self.statuses[word] = self.statuses.get(word, 0) + 1
            self.longest = max(self.longest, seconds)

    def _run(self):
        client = None
        while not self.ending.is_set():
            try:
                client = client or self.daemon.client(self.name)
                start = time.monotonic()
                status, _ = client.call(*self.call)
                self._note(status, time.monotonic() - start)
            except (OSError, ConnectionError):
                # Not connected, or the daemon went: its end is the answer.
                client = self._drop(client)
                self._note("closed")
                time.sleep(0.01)
            except (AssertionError, Timeout, ValueError) as error:
                self.errors.append(repr(error))
                client = self._drop(client)
        self._drop(client)

    @staticmethod
    def _drop(client):
        if client is not None:
            client.close()

