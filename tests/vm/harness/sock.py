# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of -device rvmrpc,socket=PATH, and the frames it speaks."""
import json
import struct

from .paths import connect_unix
from .wait import Deadline

MAGIC = 0x534d5652
HEADER = struct.Struct("<IHHIIQIIIIQ")
ENTRY = struct.Struct("<HHIII32s")       # rvmrpc_list_entry
SUBMIT, CANCEL, QUERY, SUBSCRIBE = 1, 2, 3, 4
ANSWER, INFO, EVENT, ERROR = 0x81, 0x82, 0x83, 0x84
STATUS = ("ok", "module-unavailable", "version-mismatch", "procedure-unavailable",
          "garbage-args", "too-big", "not-allowed", "busy", "not-connected", "stopped",
          "timed-out", "cancelled", "reset", "system-error")


class Frame:
    """A frame, to be sent or received; fields as in rvmrpc_socket.h."""

    def __init__(self, kind, payload=b"", *, cookie=0, module=0, procedure=0, timeout=0,
                 status=0, elapsed=0, magic=MAGIC, version=1, length=None, generation=0):
        self.kind, self.payload, self.cookie = kind, payload, cookie
        self.module, self.procedure, self.timeout = module, procedure, timeout
        self.status, self.elapsed = status, elapsed
        self.magic, self.version, self.generation = magic, version, generation
        self.length = len(payload) if length is None else length

    def pack(self):
        """Its bytes."""
        return HEADER.pack(self.magic, self.version, self.kind, self.length, self.status,
                           self.cookie, self.module, self.procedure, self.timeout,
                           self.generation, self.elapsed) + self.payload

    @classmethod
    def unpack(cls, header, payload):
        """From bytes."""
        (magic, version, kind, length, status, cookie, module, procedure, timeout,
         generation, elapsed) = HEADER.unpack(header)
        assert magic == MAGIC and version == 1 and (kind == SUBMIT or not generation), header
        return cls(kind, payload, cookie=cookie, module=module, procedure=procedure,
                   timeout=timeout, status=status, elapsed=elapsed, length=length,
                   generation=generation)


class SocketClient:
    """One connection. Answers can be read apart from their requests."""

    def __init__(self, path, timeout=10.0):
        self.sock = connect_unix(path, timeout)
        self.cookie = 0
        self.events = []

    def close(self):
        """Ends the connection."""
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _read(self, size, deadline):
        data = b""
        while len(data) < size:
            self.sock.settimeout(deadline.left())
            chunk = self.sock.recv(size - len(data))
            if not chunk:
                raise ConnectionError(f"{deadline.what}: connection closed")
            data += chunk
        return data

    def recv(self, timeout=30.0):
        """The next frame."""
        deadline = Deadline(timeout, "a frame")
        header = self._read(HEADER.size, deadline)
        return Frame.unpack(header, self._read(HEADER.unpack(header)[3], deadline))

    def send(self, kind, payload=b"", **fields):
        """Sends a frame with a new cookie, and returns that."""
        self.cookie += 1
        self.sock.settimeout(10)
        self.sock.sendall(Frame(kind, payload, cookie=self.cookie, **fields).pack())
        return self.cookie

    def submit(self, module, procedure, data=b"", timeout=0, generation=0):
        """Sends a call; its cookie. generation: of the list that told the numbers."""
        return self.send(SUBMIT, data, module=module, procedure=procedure, timeout=timeout,
                         generation=generation)

    def call(self, module, procedure, data=b"", timeout=0, generation=0):
        """(status, answer's bytes)"""
        cookie = self.submit(module, procedure, data, timeout, generation)
        while True:
            frame = self.recv(70)
            if frame.kind == EVENT:
                self.events.append(json.loads(frame.payload))
                continue
            assert frame.kind == ANSWER and frame.cookie == cookie, vars(frame)
            return STATUS[frame.status], frame.payload

    def query(self, kind=QUERY):
        """What the VM says of itself."""
        cookie = self.send(kind)
        frame = self.recv()
        assert frame.kind == INFO and frame.cookie == cookie, vars(frame)
        return json.loads(frame.payload)

    def modules(self):
        """{name: (number, generation)} of the guest's modules, by core.list; they fit into one answer."""
        status, data = self.call(0, 1, bytes(8))
        entries = list(ENTRY.iter_unpack(data[8:]))
        assert status == "ok" and len(entries) == int.from_bytes(data[:4], "little"), (status, data[:8])
        return {name.rstrip(b"\0").decode(): (number, generation)
                for kind, _, number, _, generation, name in entries if kind == 1}
