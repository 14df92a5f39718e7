# SPDX-License-Identifier: GPL-2.0-or-later
"""VMs that are none: servers of the real frames, in this process.

For what real guests cannot show: dozens of VMs, answers that are malformed, a
QEMU that hangs.
"""
import json
import os
import shutil
import socket
import struct
import tempfile
import threading
import time

from harness.paths import short_path
from harness.sock import ANSWER, ERROR, EVENT, HEADER, INFO, MAGIC, SUBMIT, SUBSCRIBE, Frame
from tools import rvmrpc

MEMORY = {1: 4 << 30, 2: 1 << 30, 3: 3 << 30, 4: 64 << 20, 5: 2 << 30}
ALL = 0xffffffff


def info_answer(items, text=b""):
    """An rvmrpc_info of (key, type, index, value)."""
    data = struct.pack("<IIII", len(items), len(text), 0, 0)
    return data + b"".join(struct.pack("<HHIQ", *item) for item in items) + text


def sysinfo(procedure, start, memory=0):
    """Answers that change as time goes by, as a guest's do. memory: all it has, if not the usual."""
    ns = int((time.monotonic() - start) * 1e9)
    if procedure == 0:
        values = {**MEMORY, 1: memory or MEMORY[1]}
        return info_answer([(key, 0, ALL, value) for key, value in values.items()])
    if procedure == 1:
        return info_answer([(1, 0, ALL, 1250000), (2, 0, ALL, 750000), (3, 0, ALL, 500000),
                            (4, 0, ALL, 2), (5, 0, ALL, 123)])
    if procedure == 2:
        return info_answer([(1, 0, ALL, 2), (2, 0, ALL, 4), (3, 1, 0, 4 << 32),
                            (8, 0, 0, 2_000_000_000)], b"Fake")
    if procedure == 3:
        return info_answer([(1, 0, cpu, ns // 4) for cpu in (ALL, 0, 1)] +
                           [(3, 0, cpu, ns * 3 // 4) for cpu in (ALL, 0, 1)])
    name = b"Fakehost"
    return info_answer([(2, 1, ALL, 4 << 32), (6, 1, ALL, 4 | 4 << 32), (10, 0, ALL, 2)], name)


class FakeVM:
    """One VM at folder/file.sock. `behave(frame, connection)` may take a frame over: true."""

    def __init__(self, folder, file, *, name=None, uuid=None, behave=None, release="6.12-fake",
                 state="connected", running=True, memory=0):
        self.path = os.path.join(folder, f"{file}.sock")
        self.name, self.uuid, self.behave, self.memory = name or file, uuid, behave, memory
        self.release, self.state, self.running = release, state, running
        self.start = time.monotonic()
        self.epoch = 2 ** 64 - 5
        self.calls = 0
        self.strange = []       # headers that are none
        self.connections = set()
        self.listener = socket.socket(socket.AF_UNIX)
        if len(self.path) < 108:
            self.listener.bind(self.path)
        else:
            with short_path(self.path) as short:
                self.listener.bind(short)
        self.listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """Ends it and its connections."""
        os.unlink(self.path)
        self.listener.close()
        for connection in list(self.connections):
            connection.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            while True:
                header = self._read(connection, HEADER.size)
                if header[:4] != struct.pack("<I", MAGIC):
                    self.strange.append(header)
                frame = Frame.unpack(header, self._read(connection, HEADER.unpack(header)[3]))
                if not (self.behave and self.behave(frame, connection)):
                    self._answer(frame, connection)
        except (OSError, AssertionError):
            pass
        finally:
            self.connections.discard(connection)
            connection.close()

    @staticmethod
    def _read(connection, size):
        data = b""
        while len(data) < size:
            chunk = connection.recv(size - len(data))
            if not chunk:
                raise ConnectionError()
            data += chunk
        return data

    def info(self):
        """What QUERY answers."""
        vm = {"name": self.name, "pid": os.getpid(), "running": self.running}
        if self.uuid:
            vm["uuid"] = self.uuid
        return {"protocol": 1, "vm": vm, "rvmrpc": {
            "state": self.state, "os": "linux", "release": self.release, "proxy": "vmm",
            "gate": "hypercall", "wait": "vmlp", "slots": 4, "last-seen-ms": 3,
            "epoch": self.epoch,
            "stats": {"calls": self.calls, "completed": self.calls, "failed": 0,
                      "registrations": 1, "in-flight": 0,
                      "events": 7, "events-lost": 5, "events-dropped": 3,
                      "latency-us": [0, 0, 0, 0, 0, 0, 0, self.calls, 0, 0],
                      "latency-sum-us": self.calls * 90}}}

    def _answer(self, frame, connection):
        if frame.kind != SUBMIT:
            reply = Frame(INFO, json.dumps(self.info()).encode(), cookie=frame.cookie)
        else:
            self.calls += 1
            payload = sysinfo(frame.procedure, self.start, self.memory) if frame.module == 2 else b""
            if frame.module == 1:
                payload = frame.payload
            reply = Frame(ANSWER, payload, cookie=frame.cookie, elapsed=150_000)
        connection.sendall(reply.pack())


class Fakes:
    """A folder of fakes for one case."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="rvmrpc-fakes-")
        self.vms = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for vm in self.vms:
            vm.close()
        shutil.rmtree(self.folder)

    def add(self, name, **options):
        """One more."""
        self.vms.append(FakeVM(self.folder, name, **options))
        return self.vms[-1]

    def run(self, *args, **more):
        """The command, with these only."""
        return rvmrpc(*args, folder=self.folder, **more)


def record(kind, *fields):
    """A record of (key, number, text or bytes)."""
    data = b""
    for key, value in fields:
        form = 0 if isinstance(value, int) else 1 if isinstance(value, str) else 2
        if form == 0:
            value = struct.pack("<Q", value)
        elif form == 1:
            value = value.encode("utf-8", "surrogateescape")
        data += struct.pack("<HHI", key, form, len(value)) + value + bytes(-len(value) % 8)
    return struct.pack("<HHI", len(data) + 8, kind, 0) + data


def records_answer(records, following=0, flags=0, count=None):
    """An rvmrpc_records of them."""
    data = b"".join(records)
    return struct.pack("<IIQII", len(records) if count is None else count, len(data), following, flags, 0) + data


def procedures(answers):
    """Answers by {(module, procedure): bytes, a status, or a function of the frame that returns either}."""
    def behave(frame, connection):
        what = answers.get((frame.module, frame.procedure))
        if frame.kind != SUBMIT or what is None:
            return False
        if callable(what) and what is not hang:
            what = what(frame)
        if what is hang:
            return True
        status, payload = (what, b"") if isinstance(what, int) else (0, what)
        connection.sendall(Frame(ANSWER, payload, cookie=frame.cookie, status=status).pack())
        return True
    return behave


def hang(_frame, _connection):
    """Reads, and never answers."""
    return True


def only_submits(behave):
    """Behaves so to calls only."""
    def wrapped(frame, connection):
        return frame.kind == SUBMIT and behave(frame, connection)
    return wrapped


def answer_with(payload, status=0):
    """Answers every call with these bytes."""
    def behave(frame, connection):
        connection.sendall(Frame(ANSWER, payload, cookie=frame.cookie, status=status).pack())
        return True
    return only_submits(behave)


def send_raw(data):
    """Answers everything with bytes that are no frame, or a wrong one."""
    def behave(_frame, connection):
        connection.sendall(data)
        return True
    return behave


__all__ = ["ALL", "ANSWER", "ERROR", "EVENT", "FakeVM", "Fakes", "Frame", "INFO", "MEMORY", "SUBMIT", "SUBSCRIBE",
           "answer_with", "hang", "info_answer", "only_submits", "procedures", "record", "records_answer", "send_raw"]
