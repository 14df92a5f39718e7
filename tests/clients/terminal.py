#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""top and watch in a real terminal: tmux, and what its screen shows.

Four VMs: a running, a paused and a driverless guest, and one whose QEMU hangs.
"""
import pathlib
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from fake import FakeVM, hang, only_submits  # noqa: E402
from harness import case, comment, main, shared, wait_for  # noqa: E402
from tools import PATIENT, RVMRPC  # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix="rvmrpc-terminal-")
FAKES = []


def guests():
    """The running guest; all four are there."""
    vms = {}
    for name in ("web", "idle", "bare"):
        vms[name] = shared(device_opts=f"socket={FOLDER.name}/{name}.sock", memory="192M",
                           extra=["-name", name],
                           append=PATIENT + (" rvmrpc.load=0" if name == "bare" else ""))
    vms["idle"].qmp.cmd("stop")
    if not FAKES:
        FAKES.append(FakeVM(FOLDER.name, "hung", behave=only_submits(hang)))
    return vms["web"]


class Terminal:
    """A command in a tmux of its own."""

    def __init__(self, *args, columns=110, rows=20):
        # A relative socket name: tmux limits its length.
        self.folder = tempfile.TemporaryDirectory(prefix="rvmrpc-tmux-")
        self.socket = f"{self.folder.name}/t"
        self.errors = f"{self.folder.name}/err"
        words = " ".join(["env", f"RVMRPC_PATH={FOLDER.name}", "ASAN_OPTIONS=detect_leaks=1",
                          "LC_ALL=C.UTF-8", str(RVMRPC), *args])
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows),
                  f"{words} 2>{self.errors}; echo ended with $?; sleep 60")

    def tmux(self, *args):
        """Runs tmux; its output."""
        return subprocess.run(["tmux", "-S", self.socket, *args], check=True, timeout=20,
                              stdout=subprocess.PIPE, text=True).stdout

    def screen(self, *more):
        """What it shows."""
        return self.tmux("capture-pane", "-p", *more)

    def wait(self, pattern, timeout=20):
        """Waits until the screen matches; the screen."""
        def check():
            text = self.screen()
            return text if re.search(pattern, text, re.M) else None

        try:
            return wait_for(check, timeout, f"{pattern} on the screen", interval=0.1)
        except Exception as error:
            raise AssertionError(f"{error}\n{self.screen()}") from None

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            with open(self.errors, encoding="utf-8") as f:
                errors = f.read()
        except FileNotFoundError:
            errors = ""
        self.tmux("kill-server")
        self.folder.cleanup()
        if kind is None:
            assert not errors, errors


@case("top shows all four VMs, each with its state", timeout=120)
def top():
    """Values of the running one; the hung one holds up nothing."""
    guests()
    with Terminal("top", "-i", "0.5") as t:
        t.wait(r"^hung +silent")
        text = t.wait(r"^web +connected +\d+\.\d[KMG] +\d+\.\d[KMG] +\d+\.\d[KMG] +"
                      r"\d+\.\d[KMG] +\d+\.\d +\d+\.\d\d +\d+\.\d +\d+ us")
        comment(text)
        assert re.search(r"^rvmrpc top  \d\d:\d\d:\d\d  4 VMs", text), text
        assert re.search(r"^NAME +STATE +TOTAL +USED +AVAIL +CACHED +CPU% +LOAD +CALLS/s +LATENCY",
                         text, re.M), text
        assert re.search(r"^bare +no-driver", text, re.M), text
        assert re.search(r"^idle +paused", text, re.M), text
        names = [line.split()[0] for line in text.splitlines()[3:7]]
        assert names == ["bare", "hung", "idle", "web"], names
        t.tmux("send-keys", "m")
        t.wait(r"(?s)LATENCY\nweb +connected")
        assert "\033[32m" in t.screen("-e"), "no colour on a terminal"
        t.tmux("send-keys", "q")
        t.wait("ended with 0")


@case("top follows a VM that resumes, that ends and a narrow screen", timeout=120)
def top_changes():
    """Within seconds."""
    guests()
    with Terminal("top", "-i", "0.3", columns=60, rows=6) as t:
        t.wait(r"^idle +paused")
        shared_idle().qmp.cmd("cont")
        t.wait(r"^idle +connected")
        assert all(len(line) <= 60 for line in t.screen().splitlines())
        extra = FakeVM(FOLDER.name, "aaa")
        t.wait(r"^aaa +connected")
        assert "5 VMs" in t.screen()
        extra.close()
        t.wait(r"4 VMs")
        assert not re.search(r"^aaa", t.screen(), re.M)
        # Four VMs on three lines: the last is below.
        assert not re.search(r"^web", t.screen(), re.M)
        t.tmux("send-keys", "Down")
        t.wait(r"^web +connected")
        t.tmux("send-keys", "C-c")
        t.wait("ended with 0")


def shared_idle():
    """The paused guest."""
    return shared(device_opts=f"socket={FOLDER.name}/idle.sock", memory="192M",
                  extra=["-name", "idle"], append=PATIENT)


@case("watch prints a line per VM and round, and events", timeout=120)
def watch():
    """On a terminal with colours."""
    web = guests()
    with Terminal("watch", "-i", "0.5", columns=150, rows=50) as t:
        text = t.wait(r"^\d\d:\d\d:\d\d web connected memory \d+\.\dM of \d+\.\dM load \d+\.\d\d "
                      r"cpu \d+\.\d% latency \d+ us")
        text = t.wait(r"hung silent .*did not answer|hung silent .*does not answer")
        assert re.search(r"^\d\d:\d\d:\d\d idle paused", text, re.M), text
        assert re.search(r"^\d\d:\d\d:\d\d bare no-driver", text, re.M), text
        assert "\033[33m" in t.screen("-e"), "no colour on a terminal"
        comment("\n".join(text.splitlines()[:8]))
        web.qmp.cmd("system_reset")
        t.wait(r"web event .*RVMRPC_DISCONNECTED.*guest-reset")
        t.wait(r"web event .*RVMRPC_CONNECTED", 60)
        t.tmux("send-keys", "C-c")
        t.wait("ended with 0")
    web.wait_ready()


@case("top in a terminal that shrinks below its heading")
def tiny():
    """Goes on."""
    guests()
    with Terminal("top", "-i", "0.3", columns=20, rows=4) as t:
        t.wait("^rvmrpc top")
        t.tmux("resize-window", "-x", "3", "-y", "1")
        time.sleep(0.6)
        t.tmux("resize-window", "-x", "110", "-y", "20")
        t.wait(r"^web +connected")
        t.tmux("send-keys", "q")
        t.wait("ended with 0")


if __name__ == "__main__":
    main()
