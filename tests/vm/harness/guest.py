# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs commands in the test guest over its second serial port."""
import re
import secrets
import shlex
import socket
import time

from .paths import connect_unix
from .wait import TIMES, Deadline, Timeout

NUDGE_S = 10


class GuestError(Exception):
    """A command in the guest failed that should not have."""


class GuestTimeout(Timeout):
    """A command in the guest did not end in time."""


def knock():
    """A line that a shell answers, and the answer.

    What is sent before a shell reads may lose its beginning. No rest of this line may change how the
    next one is read, as one of two quotes would, or be a command. The backslash tells the line, which
    the terminal may echo, from the answer.
    """
    token = secrets.token_hex(6).upper()
    return f"echo S\\{token}\n".encode(), f"S{token}\n".encode()


class GuestShell:
    """The shell that tests/vm/guest/guest-shell runs, by its serial port's path
    or by a connected socket.
    """

    def __init__(self, path, timeout=10.0):
        self.sock = connect_unix(path, timeout)
        self.data = b""
        self.knocks = []
        self.waits = False      # for a command's end
        self.nudge = None       # called now and then while nothing comes

    def close(self):
        """Closes the connection; the shell stays."""
        self.sock.close()

    def _read_until(self, pattern, deadline, slice_end=None):
        """The match of a pattern in what comes; None when the slice ends."""
        while True:
            match = re.search(pattern, self.data, re.DOTALL)
            if match:
                self.data = self.data[match.end():]
                return match
            wait = deadline.left()
            if slice_end is not None:
                wait = min(wait, slice_end - time.monotonic())
                if wait <= 0:
                    return None
            self.sock.settimeout(min(wait, NUDGE_S))
            try:
                chunk = self.sock.recv(65536)
            except socket.timeout:
                if self.nudge and wait > NUDGE_S:
                    self.nudge()
                continue
            if not chunk:
                raise ConnectionError("the guest's serial port closed")
            self.data += chunk

    def sync(self, timeout=60.0):
        """Waits until the shell answers. What is sent before it reads is lost.

        Any knock will do, also one of a sync() that has ended: on a busy machine an answer takes longer than the next.
        """
        deadline = Deadline(timeout, "guest's shell")
        while True:
            line, answer = knock()
            self.knocks.append(answer)
            self.sock.settimeout(deadline.left())
            self.sock.sendall(line)
            if self._read_until(b"|".join(self.knocks), deadline, time.monotonic() + 0.5):
                self.knocks.clear()
                return self

    def start(self, command, timeout=30.0):
        """Sends a command; finish() has its result."""
        token = secrets.token_hex(6)
        line = (f"echo B''{token}; timeout -s KILL {max(1, int(timeout * TIMES))} "
                f"sh -c {shlex.quote(command)} </dev/null 2>&1; echo E''{token} $?\n")
        self.sock.settimeout(timeout)
        self.sock.sendall(line.encode())
        self.waits = True
        return token, command, Deadline(timeout + 5, f"guest: {command[:60]}")

    def finish(self, started):
        """(exit status, output) of a command that start() sent."""
        token, command, deadline = started
        try:
            match = self._read_until(
                f"B{token}\n(.*?)E{token} ([0-9]+)\n".encode(), deadline)
        except Timeout as error:
            raise GuestTimeout(str(error)) from None
        finally:
            self.waits = False
        status = int(match.group(2))
        if status == 137 and deadline.end - time.monotonic() < 5 * TIMES + 1:
            raise GuestTimeout(f"guest: {command[:60]}: killed")
        return status, match.group(1).decode(errors="replace")

    def run(self, command, timeout=30.0):
        """(exit status, stdout and stderr) of a shell command."""
        return self.finish(self.start(command, timeout))

    def heard(self, seconds):
        """What comes first in that time from a guest whose shell may be stopped."""
        self.sock.settimeout(seconds)
        try:
            return self.sock.recv(4096)
        except socket.timeout:
            return b""

    def check(self, command, timeout=30.0):
        """The output of a command that must succeed."""
        status, output = self.run(command, timeout)
        if status:
            raise GuestError(f"guest: {command}: exit status {status}: {output.strip()}")
        return output
