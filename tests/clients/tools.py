# SPDX-License-Identifier: GPL-2.0-or-later
"""The tools under test, built with ASan and UBSan."""
import json
import os
import pathlib
import socket
import subprocess
import time

from harness import BUILD

RVMRPC = pathlib.Path(os.environ.get("RVMRPC", BUILD / "host-tools" / "rvmrpc-asan"))
EXPORTER = BUILD / "host-tools" / "rvmrpc-exporter-asan"
# What a sanitizer prints; no tool may ever.
COMPLAINTS = ("AddressSanitizer", "LeakSanitizer", "runtime error", "CRITICAL", "WARNING")
# Three guests on two CPUs: no complaint that one had to wait for its turn.
PATIENT = "rcupdate.rcu_cpu_stall_timeout=120"


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Result:
    """Of one run: .status, .out, .err, .seconds"""

    def __init__(self, status, out, err, seconds):
        self.status, self.out, self.err, self.seconds = status, out, err, seconds

    def __repr__(self):
        return f"exit status {self.status} after {self.seconds:.2f} s\n{self.out}{self.err}"

    def json(self):
        """Its output as JSON."""
        return json.loads(self.out)


def environment(folder=None, **more):
    """With the sockets of one folder only, and LeakSanitizer's report."""
    env = dict(os.environ, LC_ALL="C.UTF-8", ASAN_OPTIONS="detect_leaks=1", **more)
    env.pop("RVMRPC_PATH", None)
    if folder:
        env["RVMRPC_PATH"] = str(folder)
    return env


# Of these a call has 1 to 3 s by default, which other work of the machine may take. One that hangs is told its time.
ASKING = {"call", "clock", "cpuinfo", "cpustat", "df", "dmesg", "forward", "info", "ip", "loadavg", "meminfo", "osinfo", "ping",
          "poweroff", "ps", "psi", "reboot", "sysrq", "vmcoreinfo"}


def rvmrpc(*args, folder=None, timeout=30, stdin=b"", user=None, **env):
    """Runs the command."""
    patience = ["-t", "10000"] if args and args[0] in ASKING else []
    start = time.monotonic()
    done = subprocess.run([RVMRPC, *patience, *map(str, args)], input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=environment(folder, **env),
                          timeout=timeout, check=False, user=user,
                          extra_groups=[] if user is not None else None)
    result = Result(done.returncode, done.stdout.decode("utf-8", "replace"),
                    done.stderr.decode("utf-8", "replace"), time.monotonic() - start)
    for word in COMPLAINTS:
        assert word not in result.err, result
    return result


def soon(limit, run, times=3):
    """The result of run(), which takes less than limit seconds: other work of the machine lets it, once in so many times."""
    for _ in range(times):
        result = run()
        if result.seconds < limit:
            break
    assert result.seconds < limit, result
    return result


def told(run, is_told, times=5):
    """The result of run(), which tells what a VM says of itself: it has 300 ms for its name and UUID, which other work of
    the machine may take.
    """
    for _ in range(times):
        result = run()
        if is_told(result):
            break
    return result


def ok(*args, **more):
    """Runs what must succeed."""
    result = rvmrpc(*args, **more)
    assert result.status == 0, result
    return result
