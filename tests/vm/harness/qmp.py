# SPDX-License-Identifier: GPL-2.0-or-later
"""A QMP client. Requests and replies can be apart, for tests with timing."""
import json
import select
import socket
import time

from .paths import connect_unix
from .wait import Deadline


class QMPError(Exception):
    """An error reply: .kind is its class, .desc its text."""

    def __init__(self, command, error):
        super().__init__(f"{command}: {error['class']}: {error['desc']}")
        self.command = command
        self.kind = error["class"]
        self.desc = error["desc"]


class QMP:
    """One connection to a monitor, by its path or by a connected socket.

    It negotiates the named capabilities ("oob"). Replies that nobody has taken are in .replies, in
    the order in which they came.
    """

    def __init__(self, path, timeout=10.0, enable=()):
        self.sock = connect_unix(path, timeout)
        self.data = b""
        self.next_id = 0
        self.names = {}
        self.replies = {}
        self.events = []
        try:
            deadline = Deadline(timeout, f"QMP greeting from {path}")
            first = self._read_object(deadline)
            # Before it may come what QEMU had to say to the client before this one.
            while "QMP" not in first:
                first = self._read_object(deadline)
            self.greeting = first["QMP"]
            self.cmd("qmp_capabilities", enable and {"enable": list(enable)}, timeout=timeout)
        except BaseException:
            self.close()
            raise

    def close(self):
        """Closes the connection; the monitor stays."""
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _read_object(self, deadline):
        while b"\n" not in self.data:
            self.sock.settimeout(deadline.left())
            try:
                chunk = self.sock.recv(65536)
            except socket.timeout:
                continue
            if not chunk:
                raise ConnectionError(f"QEMU closed its monitor ({deadline.what})")
            self.data += chunk
        line, self.data = self.data.split(b"\n", 1)
        return json.loads(line)

    def _pump(self, deadline):
        """Takes one message in."""
        message = self._read_object(deadline)
        if "event" in message:
            self.events.append(message)
        else:
            self.replies[message.get("id")] = message

    def pending(self, seconds=0.0):
        """Takes in what has come, and comes in that time; .replies."""
        deadline = time.monotonic() + seconds
        while select.select([self.sock], [], [], max(0, deadline - time.monotonic()))[0]:
            self._pump(Deadline(10, "the rest of a line"))
        return self.replies

    def send(self, name, arguments=None, oob=False, **more):
        """Sends a command and returns its id. Keywords: _ stands for -."""
        arguments = dict(arguments or {})
        arguments.update({key.replace("_", "-"): value for key, value in more.items()})
        self.next_id += 1
        request = {"exec-oob" if oob else "execute": name, "id": self.next_id}
        if arguments:
            request["arguments"] = arguments
        self.sock.settimeout(10)
        self.sock.sendall(json.dumps(request).encode() + b"\n")
        self.names[self.next_id] = name
        return self.next_id

    def recv(self, ident, timeout=30.0):
        """The answer to the command that send() gave this id."""
        name = self.names[ident]
        deadline = Deadline(timeout, f"answer to {name}")
        while ident not in self.replies:
            self._pump(deadline)
        reply = self.replies.pop(ident)
        del self.names[ident]
        if "error" in reply:
            raise QMPError(name, reply["error"])
        return reply["return"]

    def cmd(self, name, arguments=None, timeout=30.0, **more):
        """Sends a command and waits for its answer."""
        return self.recv(self.send(name, arguments, **more), timeout)

    def cmd_raw(self, text, timeout=30.0):
        """Sends a line as it is; returns the next message that is no event."""
        deadline = Deadline(timeout, "answer to raw text")
        self.sock.sendall(text.encode() + b"\n")
        while True:
            message = self._read_object(deadline)
            if "event" not in message:
                return message
            self.events.append(message)

    def hmp(self, line, timeout=30.0):
        """The human monitor's answer to a line."""
        return self.cmd("human-monitor-command", {"command-line": line}, timeout=timeout)

    def wait_event(self, name, timeout=30.0, match=lambda data: True):
        """Takes the first event of that name, which may have come before."""
        deadline = Deadline(timeout, f"event {name}")
        seen = 0
        while True:
            for i in range(seen, len(self.events)):
                event = self.events[i]
                if event["event"] == name and match(event.get("data", {})):
                    return self.events.pop(i)
            seen = len(self.events)
            self._pump(deadline)

    def take_events(self):
        """All events that have come so far, oldest first; forgets them."""
        self.cmd("query-name")
        events, self.events = self.events, []
        return events
