#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Output that does not arrive is an error; a closed standard file is no other file's place. No guest runs."""
import os
import pathlib
import pty
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from fake import FakeVM, procedures, record, records_answer  # noqa: E402
from harness import BUILD, case, comment, main, wait_for  # noqa: E402
from tools import EXPORTER, RVMRPC, environment, free_port  # noqa: E402

RVMRPCD = BUILD / "host-tools" / "rvmrpcd-asan"
# Not the second that a call has by default: other work of the machine may take it.
COMMAND = [RVMRPC, "-t", "10000"]
COMMANDS = [["list"], ["list", "--json"], ["info", "vm"], ["info", "vm", "--json"], ["meminfo", "vm"],
            ["meminfo", "vm", "--json"], ["loadavg", "vm"], ["cpuinfo", "vm"], ["cpustat", "vm"],
            ["osinfo", "vm"], ["drop-caches", "vm", "all"], ["call", "vm", "1", "0", "text"],
            ["call", "vm", "1", "0", "text", "--json"], ["ping", "vm", "-c", "1"], ["ping", "vm", "-c", "1", "--json"],
            ["watch", "vm", "-c", "1"], ["watch", "vm", "-c", "1", "--json"], ["top", "--json", "-n", "1", "-i", "0.1"],
            ["df", "vm"], ["ip", "vm", "--json"], ["ps", "vm"], ["dmesg", "vm"], ["dmesg", "vm", "--json"],
            ["freeze", "vm", "--status"], ["doctor", "vm"], ["doctor", "vm", "--json"],
            ["balance", "--target", "1", "-n", "1"], ["balance", "--target", "1", "-n", "1", "--json"], ["--help"], ["--version"]]


def answers():
    """To what the fake does not answer by itself: reclaim.drop_caches, freeze.status, lists."""
    lists = {(module, 0): records_answer([record(module - 3)]) for module in (7, 9, 10)}
    lists[(8, 0)] = records_answer([record(5, (1, 1), (5, "a message"))])
    return procedures({(3, 0): bytes(16), (13, 2): bytes(24)} | lists)


def run(words, *closed, folder=None, **options):
    """(status, stderr) of a program; of these numbers no file is open."""
    def close():
        for number in closed:
            os.close(number)

    done = subprocess.run(words, stderr=subprocess.PIPE, env=environment(folder), text=True, timeout=30, check=False,
                          preexec_fn=close if closed else None, **options)  # pylint: disable=subprocess-popen-preexec-fn
    return done.returncode, done.stderr


@case("every command: a full disk is an error", timeout=120)
def full():
    """With exit status 1; what failed before keeps its own."""
    with tempfile.TemporaryDirectory() as folder, open("/dev/full", "wb") as out:
        vm = FakeVM(folder, "vm", behave=answers())
        for words in COMMANDS:
            status, err = run([*COMMAND, *words], stdout=out, folder=folder)
            reason = "it failed" if words == ["--help"] else "No space left"      # GLib prints that one
            assert status == 1 and f"cannot write the output: {reason}" in err, (words, status, err)
        assert run([*COMMAND, "meminfo", "nobody"], stdout=out, folder=folder)[0] == 3
        for words in ([EXPORTER, "--help"], [RVMRPCD, "--help"], [RVMRPCD, "--version"]):
            status, err = run(words, stdout=out)
            assert status == 1 and "cannot write the output" in err, (words, status, err)
        vm.close()


@case("every command: a closed standard output is an error, and not the VM's socket", timeout=120)
def closed_output():
    """Nothing but frames goes to the VM."""
    with tempfile.TemporaryDirectory() as folder:
        vm = FakeVM(folder, "vm", behave=answers())
        for words in COMMANDS:
            status, err = run([*COMMAND, *words], 1, folder=folder)
            assert status == 1 and "cannot write the output" in err, (words, status, err)
            done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *COMMAND, *words], check=False,
                                  env=environment(folder), timeout=30)
            assert done.returncode == 1, (words, done)
        assert not vm.strange, vm.strange
        vm.close()


def listens(port):
    """Whether somebody does."""
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def standard_files(words, folder, ready):
    """What 0, 1 and 2 are in a program that was started without."""
    with subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *map(str, words)],
                          env=environment(folder)) as process:
        try:
            wait_for(lambda: process.poll() is not None or ready(), 20, f"{words[0]} to start")
            assert process.poll() is None, process.returncode
            return {os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in range(3)}
        finally:
            process.terminate()
            process.wait(10)


@case("daemons that are started without standard files log into nobody's socket")
def daemons():
    """rvmrpcd and the exporter."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "a.sock")
        config = pathlib.Path(folder, "conf")
        config.write_text(f"[daemon]\nsocket-dir={folder}\nivshmem-dir={folder}\nvm-dir={folder}/none\n",
                          encoding="ascii")
        assert standard_files([RVMRPCD, "-c", config, "--vm", "name=a"], folder, path.exists) == {"/dev/null"}
        port = free_port()
        assert standard_files([EXPORTER, "-l", f"127.0.0.1:{port}"], folder, lambda: listens(port)) == {"/dev/null"}


def cpu_seconds(pid):
    """CPU time of a process."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@case("top ends when its terminal is gone")
def hangup():
    """Also where SIGHUP is ignored, as under nohup."""
    with tempfile.TemporaryDirectory() as folder:
        vm = FakeVM(folder, "vm")
        pid, master = pty.fork()
        if not pid:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            os.execvpe(RVMRPC, [RVMRPC, "top"], {**environment(folder), "TERM": "xterm"})
        ended = 0
        try:
            end = time.monotonic() + 20
            while time.monotonic() < end and b"connected" not in os.read(master, 65536):
                pass
            os.close(master)
            before, end = cpu_seconds(pid), time.monotonic() + 10
            while not ended and time.monotonic() < end:
                time.sleep(0.1)
                ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                comment(f"it took {cpu_seconds(pid) - before:.1f} s of CPU time in 10 s")
            assert ended and os.WEXITSTATUS(status) == 1, (ended, status)
        finally:
            if not ended:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            vm.close()


if __name__ == "__main__":
    main(guests=False)
