#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""df, ip, ps, psi, dmesg, clock, reclaim, freeze, sysrq, poweroff, reboot: on fakes, for what no real guest shows."""
import json
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from fake import EVENT, INFO, SUBSCRIBE, Fakes, Frame, hang, info_answer, procedures, record, records_answer  # noqa: E402
from harness import case, main  # noqa: E402
from tools import RVMRPC, environment, ok, soon  # noqa: E402

TOP = pathlib.Path(__file__).resolve().parents[2]
MORE, PARTIAL = 1, 2
MODULE_UNAVAILABLE, TOO_BIG, NOT_ALLOWED, RESET = 1, 5, 6, 12
EVIL = "\033[2J\u202eevil\udcff"
COMMANDS = {"df": (9, 0), "ip": (10, 0), "ps": (7, 0), "psi": (6, 0), "dmesg": (8, 0)}


def task(pid, name="task", *more):
    """A record TASK."""
    return record(4, (1, pid), (3, name), (4, "S"), (6, 0), (8, 1), *more)


def wanted(frame):
    """(cursor, select, limit) of a call."""
    return struct.unpack("<QII", frame.payload)


@case("df, ip, ps, psi: every field, in a table and as JSON")
def forms():
    """What is absent is a dash, never 0; unknown kinds and keys are left out."""
    filesystems = records_answer([
        record(6, (1, "/"), (2, "/dev/vda1"), (3, "ext4"), (5, 254 << 32 | 1), (6, 0), (8, 10 << 30), (9, 4 << 30),
               (10, 2 << 30), (11, 1000), (12, 250), (99, "new")),
        record(6, (1, "/mnt"), (2, "server:/x"), (3, "nfs4"), (7, 1)),
        record(6, (1, "/old"), (2, "server:/y"), (3, "nfs"), (7, 1), (8, 2 << 30), (9, 1 << 30), (10, 1 << 30), (13, 1)),
        record(77, (1, "new kind"))])
    interfaces = records_answer([
        record(7, (1, 1), (2, "lo"), (4, 65536), (5, 1), (6, "unknown"), (7, 1), (8, 100), (10, 0)),
        record(8, (1, 1), (2, bytes([127, 0, 0, 1])), (3, 8), (4, "host")),
        record(7, (1, 2), (2, "eth0"), (3, bytes.fromhex("525400123456")), (4, 1500), (5, 0), (6, "down"), (14, 3)),
        record(8, (1, 2), (2, bytes.fromhex("20010db8") + bytes(11) + b"\7"), (3, 64), (4, "global")),
        record(8, (1, 9), (2, b"\1\2\3\4"))])
    pressure = records_answer([record(1, (1, "cpu"), (2, 1234), (3, 50), (4, 0), (5, 5 * 10**9)),
                               record(1, (1, "io"), (2, 10000), (5, 1), (6, 9999), (9, 1))])
    tasks = records_answer([task(1, "init", (9, 3 << 20), (10, 3723 * 10**9)), task(2, "kthreadd", (7, 1))])
    with Fakes() as fakes:
        fakes.add("vm", behave=procedures({(9, 0): filesystems, (10, 0): interfaces, (6, 0): pressure, (7, 0): tasks}))
        text = fakes.run("df", "vm").out
        assert re.search(r"^/dev/vda1 +ext4 +10\.0G +6\.0G +2\.0G +75% +75% +/$", text, re.M), text
        assert re.search(r"^server:/x +nfs4 +- +- +- +- +- +/mnt \(remote, not asked\)$", text, re.M), text
        assert re.search(r"^server:/y +nfs +2\.0G +1\.0G +1\.0G +50% +- +/old \(remote, not asked\)$", text, re.M), text
        root, remote, old = fakes.run("df", "vm", "--json").json()["filesystems"]
        assert root == {"target": "/", "source": "/dev/vda1", "type": "ext4", "device": "254:1", "read-only": False,
                        "size": 10 << 30, "free": 4 << 30, "available": 2 << 30, "inodes": 1000, "inodes-free": 250}
        assert remote == {"target": "/mnt", "source": "server:/x", "type": "nfs4", "skipped": "remote"}, remote
        assert old["cached"] is True and old["size"] == 2 << 30, old
        text = fakes.run("ip", "vm").out
        assert re.search(r"^lo +unknown +- +65536 +0\.1K +0 +- +- +127\.0\.0\.1/8$", text, re.M), text
        assert re.search(r"^eth0 +off +52:54:00:12:34:56 +1500 +- +- +- +3 +2001:db8::7/64$", text, re.M), text
        loopback, eth0 = fakes.run("ip", "vm", "--json").json()["interfaces"]
        assert loopback["addresses"] == [{"address": "127.0.0.1", "prefix": 8, "scope": "host"}], loopback
        assert loopback["loopback"]
        assert eth0["mac"] == "52:54:00:12:34:56" and not eth0["up"] and "rx-bytes" not in eth0, eth0
        text = fakes.run("psi", "vm").out
        assert re.search(r"^cpu +12\.34% +0\.50% +0\.00% +5\.00 s +- +- +- +-$", text, re.M), text
        got = fakes.run("psi", "vm", "--json").json()
        assert got["resources"][1] == {"resource": "io", "some-avg10": 100, "some-total-ns": 1, "full-avg10": 99.99,
                                       "full-total-ns": 1} and got["whole"], got
        text = fakes.run("ps", "vm").out
        assert re.search(r"^ +1 +0 +S +1 +3\.0M +1:02:03 +init$", text, re.M), text
        assert re.search(r"^ +2 +0 +S +1 +- +- +\[kthreadd\]$", text, re.M), text


@case("lists of several answers: each record once, by the cursor that was told")
def pages():
    """Answers without a record, a most, and the guest's own order."""
    asked = []

    def many(frame):
        cursor, select, limit = wanted(frame)
        asked.append((cursor, select, limit))
        size = min(limit or 30, 30, 300 - cursor)
        end = cursor + size
        if cursor == 60 and asked.count((60, select, limit)) and len(asked) < 4:
            return records_answer([], 61, MORE)
        return records_answer([task(i + 1) for i in range(cursor, end)], end if end < 300 else 0,
                              MORE if end < 300 else 0)
    with Fakes() as fakes:
        fakes.add("vm", behave=procedures({(7, 0): many}))
        tasks = fakes.run("ps", "vm", "--json").json()["tasks"]
        assert [t["pid"] for t in tasks] == [*range(1, 61), *range(62, 301)], tasks
        del asked[:]
        assert len(fakes.run("ps", "vm", "--by", "memory", "-n", 40, "--json").json()["tasks"]) == 40
        assert asked == [(0, 1, 40), (30, 1, 10)], asked
        # One that sends more than it was asked for.
        fakes.add("more", behave=procedures({(7, 0): records_answer([task(i) for i in range(9)])}))
        assert len(fakes.run("ps", "more", "-n", 3, "--json").json()["tasks"]) == 3


def wrong_lengths():
    """Answers, none of which is one."""
    good = task(1)
    head = struct.Struct("<IIQII")
    yield b""
    yield bytes(23)
    yield records_answer([good])[:-8]
    yield records_answer([good]) + bytes(8)
    yield records_answer([good], count=2)
    yield records_answer([good], count=0xffffffff)
    yield head.pack(1, 0xfffffff8, 0, 0, 0) + good
    yield head.pack(1, len(good), 0, 0, 1) + good
    for length in (0, 4, 7, 12, len(good) + 8, 0xffff):
        yield records_answer([struct.pack("<H", length) + good[2:]])
    yield records_answer([good[:4] + b"\1\0\0\0" + good[8:]])
    # A field that leads out of its record; a number of 4 bytes.
    yield records_answer([good[:12] + b"\xff\xff\xff\xff" + good[16:]])
    yield records_answer([good[:12] + b"\4\0\0\0" + good[16:]])


@case("malformed lists: exit status 9, and no part of them")
def malformed():
    """Wrong lengths, circles, no end, in the first answer and in later ones."""
    with Fakes() as fakes:
        now = {}
        fakes.add("bad", behave=procedures({where: lambda frame: now["is"](frame) for where in COMMANDS.values()}))
        for number, payload in enumerate(wrong_lengths()):
            for command in COMMANDS if number < 3 else ("ps",):
                now["is"] = lambda frame, payload=payload: payload
                result = fakes.run(command, "bad")
                assert result.status == 9 and "bad: " in result.err and "malformed" in result.err, (number, result)
                assert not result.out, (number, result)
            now["is"] = lambda frame, payload=payload: (payload if wanted(frame)[0] else
                                                        records_answer([task(1)], 5, MORE))
            result = fakes.run("ps", "bad")
            assert result.status == 9 and not result.out, (number, result)
        for circle in (lambda cursor: 0, lambda cursor: cursor, lambda cursor: 3 - cursor if cursor else 1):
            now["is"] = lambda frame, circle=circle: records_answer([task(1)], circle(wanted(frame)[0]), MORE)
            result = fakes.run("ps", "bad")
            assert result.status == 9 and "malformed" in result.err, result
        # Without end: by the number of answers, and by their bytes.
        for each in ([], [task(1, "x" * 60000)]):
            now["is"] = lambda frame, each=each: records_answer(each, wanted(frame)[0] + 1, MORE)
            result = fakes.run("ps", "bad", "-t", 60000)
            assert result.status == 9 and result.seconds < 15, (len(each), result.status, result.seconds)


@case("a list that is cut short: what came, the reason, and its exit status")
def cut():
    """Too late, refused, reset; the guest that could not look at everything."""
    with Fakes() as fakes:
        for name, what, status in (("late", hang, 6), ("reset", RESET, 7), ("big", TOO_BIG, 8)):
            fakes.add(name, behave=procedures({(7, 0): lambda frame, what=what: what if wanted(frame)[0] else
                                               records_answer([task(7)], 8, MORE)}))
            result = soon(2.7, lambda name=name: fakes.run("ps", name, "-t", 1500))
            assert result.status == status and re.search(r"^ +7 ", result.out, re.M), result
            assert "not whole" in result.err and f"{name}: " in result.err, result
            got = fakes.run("ps", name, "-t", 1500, "--json").json()
            assert not got["whole"] and got["error"].startswith(name) and len(got["tasks"]) == 1, got
        # Slowly, but for ever: the time is for all of it.
        def slow(frame):
            time.sleep(0.1)
            return records_answer([task(1)], wanted(frame)[0] + 1, MORE)
        fakes.add("slow", behave=procedures({(7, 0): slow}))
        result = soon(4.4, lambda: fakes.run("ps", "slow", "-t", 3000))
        assert result.status == 6 and 2.9 < result.seconds and 1 < result.out.count("task") < 35, result
        fakes.add("partial", behave=procedures({(7, 0): records_answer([task(7)], 0, PARTIAL)}))
        result = fakes.run("ps", "partial")
        assert result.status == 0 and "could not look at all" in result.err, result
        assert fakes.run("ps", "partial", "--json").json()["whole"] is False


@case("errors: not allowed, no such module, no pressure, no answer")
def errors():
    """Exit statuses as those of the other commands; what is not known is an error, no empty list."""
    with Fakes() as fakes:
        fakes.add("old", behave=procedures({where: MODULE_UNAVAILABLE for where in COMMANDS.values()}))
        fakes.add("strict", behave=procedures({where: NOT_ALLOWED for where in COMMANDS.values()}))
        fakes.add("hung", behave=procedures({where: hang for where in COMMANDS.values()}))
        for command in COMMANDS:
            result = fakes.run(command, "old")
            assert result.status == 8 and "no such module" in result.err and not result.out, result
            result = fakes.run(command, "strict", "--json")
            assert result.status == 8 and "allow-list" in result.err and not result.out, result
        result = soon(1.5, lambda: fakes.run("df", "hung", "-t", 300))
        assert result.status == 6 and not result.out, result
        fakes.add("calm", behave=procedures({(6, 0): records_answer([])}))
        result = fakes.run("psi", "calm")
        assert result.status == 8 and "psi=1" in result.err, result
        assert fakes.run("ps", "calm", "--by", "name").status == 2


@case("a guest's text is escaped in every table; no name is too long")
def escapes():
    """Each string of each list; a program gets it as it is."""
    long = "l" * 60000
    with Fakes() as fakes:
        fakes.add("evil", behave=procedures({
            (9, 0): records_answer([record(6, (1, EVIL), (2, EVIL), (3, EVIL), (7, 3)), *[record(6, (1, "/"))] * 50,
                                    record(6, (1, long), (3, "x"))]),
            (10, 0): records_answer([record(7, (1, 1), (2, EVIL), (6, EVIL)), record(8, (1, 1), (2, b"odd"))]),
            (7, 0): records_answer([record(4, (1, 1), (3, EVIL), (4, EVIL))]),
            (7, 1): records_answer([record(4, (1, 1), (3, EVIL), (12, EVIL), (12, "second"))]),
            (6, 0): records_answer([record(1, (1, EVIL))]),
            (8, 0): records_answer([record(5, (1, 1), (4, 5 * 10**9 + 7000), (5, f"{EVIL}\nsecond\tline"))])}))
        for words in (["df"], ["ip"], ["ps"], ["ps", "--by", "blocked"], ["psi"], ["dmesg"]):
            result = fakes.run(words[0], "evil", *words[1:])
            assert result.status == 0 and "\\x1b[2J" in result.out and "evil" in result.out, (words, result)
            assert not re.search("[\0-\x08\x0b-\x1f\x7f\u202a-\u202e]", result.out), (words, result)
            assert len(result.out) < 100000, (words, len(result.out))
        assert fakes.run("ps", "evil", "--json").json()["tasks"][0]["name"].startswith("\033[2J\u202e")
        lines = fakes.run("dmesg", "evil").out.splitlines()
        assert len(lines) == 2 and all(line.startswith("[    5.000007] ") for line in lines), lines


class Log:
    """A kernel's log that grows: what klog.read answers."""

    def __init__(self):
        self.first, self.messages, self.asked = 100, ["one", "two", "three"], []

    def __call__(self, frame):
        cursor, select, limit = wanted(frame)
        self.asked.append((cursor, select, limit))
        end = self.first + len(self.messages)
        start = max(end - (limit or 64), self.first) if select else min(max(cursor, self.first), end)
        stop = min(start + 2, end)
        found = [record(5, (1, n), (4, n * 10**9), (5, self.messages[n - self.first])) for n in range(start, stop)]
        return records_answer(found, stop, MORE if stop < end else 0)


@case("dmesg: all, the last ones, and -w: what comes, what was lost, another boot")
def dmesg():
    """JSON is an object per line."""
    log = Log()
    with Fakes() as fakes:
        fakes.add("vm", behave=procedures({(8, 0): log}))
        assert [line.split("] ")[1] for line in fakes.run("dmesg", "vm").out.splitlines()] == ["one", "two", "three"]
        assert log.asked == [(0, 0, 0), (102, 0, 0)], log.asked
        del log.asked[:]
        # What follows the last ones is asked for by its number.
        got = [json.loads(line) for line in fakes.run("dmesg", "vm", "-n", 3, "--json").out.splitlines()]
        assert [m["seq"] for m in got] == [100, 101, 102] and log.asked == [(0, 1, 3), (102, 0, 1)], (got, log.asked)
        with subprocess.Popen([RVMRPC, "dmesg", "vm", "-w", "-n", "1", "-i", "0.05"], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=environment(fakes.folder)) as process:
            assert process.stdout.readline().endswith("three\n")
            log.messages.append("four")
            assert process.stdout.readline().endswith("four\n")
            log.first, log.messages = 200, ["after a gap"]
            assert process.stdout.readline().endswith("after a gap\n")
            log.first, log.messages = 0, ["booted"]
            assert process.stdout.readline().endswith("booted\n")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=10)
            assert process.returncode == 0, (process.returncode, err)
            assert "96 messages were lost" in err and "booted anew" in err, err


@case("clock: the skew, and a step by the moment that was asked about")
def clock():
    """A guest that is an hour behind; one that says nothing of its time."""
    told = []

    def read(_frame):
        return records_answer([record(9, (1, time.time_ns() - 3600 * 10**9), (2, 50 * 10**9), (3, 60 * 10**9))])

    def step(frame):
        told.append(struct.unpack("<QQ", frame.payload))
        return struct.pack("<QQ", told[0][0] - 3600 * 10**9, told[0][0])
    with Fakes() as fakes:
        fakes.add("vm", behave=procedures({(11, 0): read, (11, 1): step}))
        got = fakes.run("clock", "vm", "--json").json()
        assert abs(got["skew-ns"] + 3600 * 10**9) <= got["error-ns"] + 10**6 and got["boottime-ns"] == 60 * 10**9, got
        assert re.search(r"^skew: +-3\d{3}\.\d{6} s", fakes.run("clock", "vm").out, re.M)
        assert "stepped by +3600.000000 s" in fakes.run("clock", "vm", "--set").out
        (realtime, boottime), = told
        assert abs(realtime - time.time_ns()) < 5 * 10**9 and boottime == 60 * 10**9, told
        for name, answer in (("none", records_answer([])), ("other", records_answer([record(4, (1, 5), (3, 5))])),
                             ("far", records_answer([record(9, (1, 2**64 - 1), (3, 1))]))):
            fakes.add(name, behave=procedures({(11, 0): answer}))
            result = fakes.run("clock", name)
            assert result.status == 9 and "malformed" in result.err, result


@case("reclaim: so much, what can be spared, and how it ended")
def reclaim():
    """Sizes; nothing to spare is no call."""
    told = []

    def shrink(frame):
        told.append(struct.unpack("<Q", frame.payload)[0])
        return struct.pack("<QQII", 150 << 20, 180 << 20, 1, 0)
    with Fakes() as fakes:
        fakes.add("vm", behave=procedures({(3, 1): shrink}))
        for words, size in ((["--bytes", "200M"], 200 << 20), (["--bytes", "3g"], 3 << 30), (["--bytes", "77"], 77),
                            ([], 2 << 30)):
            result = fakes.run("reclaim", "vm", *words)
            assert result.status == 0 and "freed 150.0 MiB" in result.out and "found no more" in result.out, result
            assert told.pop() == size, (words, told)
        assert fakes.run("reclaim", "vm", "--bytes", "1", "--json").json() == {
            "wanted": 1, "freed": 150 << 20, "reclaimed": 180 << 20, "end": "exhausted"}
        for bad in ("0", "-1", "x", "12Q", "99999999999999999999", "99999999999T", "1MM", ""):
            assert fakes.run("reclaim", "vm", f"--bytes={bad}").status == 2, bad
        del told[:]
        fakes.add("tight", behave=procedures({(3, 1): shrink, (2, 0): info_answer(
            [(1, 0, 0xffffffff, 100), (2, 0, 0xffffffff, 50), (3, 0, 0xffffffff, 20)])}))
        assert "freed 0 B" in fakes.run("reclaim", "tight").out and not told
        fakes.add("short", behave=procedures({(3, 1): bytes(23)}))
        assert fakes.run("reclaim", "short", "--bytes", "1").status == 9


@case("freeze and thaw: a copy is good only if all was frozen until the end")
def freeze():
    """By exit status, for scripts."""
    def state(*numbers):
        return struct.pack("<6I", *numbers, 0)
    told = []
    with Fakes() as fakes:
        fakes.add("good", behave=procedures({
            (13, 0): lambda frame: told.append(frame.payload) or state(2, 3, 1, 0, 29900),
            (13, 1): state(0, 3, 1, 0, 0), (13, 2): state(2, 3, 1, 0, 29000)}))
        result = fakes.run("freeze", "good", "--for", 30)
        assert result.status == 0 and "frozen: 3 file systems, 1 skipped" in result.out, result
        assert "29.9 s" in result.out
        assert told == [struct.pack("<II", 30000, 0)], told
        assert fakes.run("freeze", "good", "--status", "--json").json() == {
            "state": "frozen", "count": 3, "skipped": 1, "lost": 0, "left-ms": 29000} and len(told) == 1
        assert fakes.run("thaw", "good").status == 0
        for number, answer in enumerate((state(3, 0, 0, 0, 0), state(0, 2, 0, 1, 0), state(0, 0, 0, 0, 0),
                                         state(1, 2, 0, 0, 0), state(77, 2, 0, 0, 0))):
            fakes.add(f"bad{number}", behave=procedures({(13, 1): answer, (13, 0): state(1, 2, 0, 0, 5)}))
            result = fakes.run("thaw", f"bad{number}")
            assert result.status == 1 and "not to be trusted" in result.err, result
            assert fakes.run("freeze", f"bad{number}").status == 1
        for bad in ("0", "601", "-5"):
            assert fakes.run("freeze", "good", f"--for={bad}").status == 2, bad
        fakes.add("hung", behave=procedures({(13, 0): hang}))
        result = fakes.run("freeze", "hung", "-t", 300)
        assert result.status == 6 and "rvmrpc thaw" in result.err, result


@case("sysrq, poweroff, reboot: what travels, and answers that do not come")
def control():
    """A key that ends the kernel is not answered."""
    told = []

    def note(frame):
        told.append((frame.procedure, frame.payload))
        return struct.pack("<II", 176, 0) if frame.procedure == 0 else b""
    with Fakes() as fakes:
        fakes.add("vm", behave=procedures({(12, n): note for n in range(4)}))
        result = fakes.run("sysrq", "vm", "m")
        assert result.status == 0 and "does not enable every key" in result.out, result
        assert fakes.run("poweroff", "vm").status == 0 and fakes.run("reboot", "vm", "--force").status == 0
        assert told == [(0, struct.pack("<II", ord("m"), 0)), (2, bytes(8)), (3, struct.pack("<II", 1, 0))], told
        for bad in ("mm", "", "\u00e9", " "):
            assert fakes.run("sysrq", "vm", bad).status == 2, bad
        fakes.add("reset", behave=procedures({(12, 0): RESET}))
        assert fakes.run("sysrq", "reset", "c").status == 0 and fakes.run("sysrq", "reset", "m").status == 7
        fakes.add("gone", behave=procedures({(12, 0): hang}))
        result = fakes.run("sysrq", "gone", "b", "-t", 300)
        assert result.status == 6 and "it may have" in result.err, result


def tells(vm, *events):
    """Who subscribes hears these, and then nothing."""
    def behave(frame, connection):
        if frame.kind != SUBSCRIBE:
            return False
        connection.sendall(Frame(INFO, json.dumps(vm().info()).encode(), cookie=frame.cookie).pack())
        for event in events:
            connection.sendall(Frame(EVENT, json.dumps(event).encode()).pack())
        return True
    return behave


@case("vmcoreinfo: the note's lines, as JSON with its place; a guest that tells none")
def vmcoreinfo():
    """What is in it is the guest's, and escaped."""
    note = record(17, (1, 0x1234000), (2, 4140), (3, "OSRELEASE=6.12\nA=\x1b[2J\n"))
    with Fakes() as fakes:
        fakes.add("vm", behave=procedures({(15, 0): records_answer([note])}))
        fakes.add("none", behave=procedures({(15, 0): records_answer([])}))
        assert fakes.run("vmcoreinfo", "vm").out == "OSRELEASE=6.12\nA=\\x1b[2J\n"
        told = fakes.run("vmcoreinfo", "vm", "--json").json()
        assert (told["address"], told["size"], told["text"].splitlines()[0]) == (0x1234000, 4140, "OSRELEASE=6.12"), told
        result = fakes.run("vmcoreinfo", "none")
        assert result.status == 0 and not result.out, result


@case("events: each in a sentence, as JSON, so many, or none in time")
def events():
    """What a guest tells is escaped."""
    def kernel(what, **more):
        data = {"type": what, "module": 0, "kind": 10, "number": 1, "time-ns": 5, "missed": 0, **more}
        return {"event": "GUEST_KERNEL_EVENT", "data": data}
    told = [kernel("oom-kill", pid=712, process="java", rss=3326083072),
            kernel("stall", percent=37.25), kernel("stall", percent=1, ended=True, missed=17),
            kernel("panic", pid=1, process="init", text="Attempted to kill init!"),
            kernel("other", module=0x101, kind=7, text=EVIL[:-1], data="AQID"), kernel("newer"),
            kernel("low-memory", text="too few free pages"),
            {"event": "RVMRPC_DISCONNECTED", "data": {"reason": "guest-reset"}},
            {"event": "ODD"}, {"data": 1}, [], {"event": "RVMRPC_NEW", "data": {}}]
    with Fakes() as fakes:
        vm = fakes.add("vm", behave=tells(lambda: vm, *told))
        result = fakes.run("events", "vm", "-t", 3000)
        assert result.status == 6 and not result.err, result
        lines = [line.split(" ", 1)[1] for line in result.out.splitlines()]
        evil = lines.pop(4)
        assert evil.startswith("module 0x101, kind 7: \\x1b[2J") and evil.isprintable() and "\u202e" not in evil, evil
        assert lines == [
            "out of memory: java (712) with 3.1 GiB is killed",
            "tasks wait for memory 37.2 % of the time",
            "tasks wait for memory 1.0 % of the time: the stall is over (17 before it were lost)",
            "panic in init (1): Attempted to kill init!",
            "newer", "the kernel is short of memory: too few free pages", "the driver is gone: guest-reset", "RVMRPC_NEW"], result
        result = fakes.run("events", "vm", "-n", 2, "--json")
        lines = [json.loads(line) for line in result.out.splitlines()]
        assert result.status == 0 and [line["event"] for line in lines] == ["GUEST_KERNEL_EVENT"] * 2, result
        assert lines[0]["data"] == told[0]["data"] and lines[1]["data"]["percent"] == 37.25 and "time" in lines[0], lines
        with subprocess.Popen([RVMRPC, "events", "vm"], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=environment(fakes.folder)) as process:
            for _ in range(9):
                process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=10)
            assert process.returncode == 0 and not err, (process.returncode, err)


@case("events: a member of the wrong type is as one that is absent")
def odd_events():
    """And no word of json-glib's about it."""
    odd = [1, -1, "1", [], {}, True, None, 1e300]
    told = [{"event": "GUEST_KERNEL_EVENT", "data": {**dict.fromkeys(("process", "pid", "rss", "missed"), value), "type": what}}
            for value in odd for what in ("oom-kill", "stall", "other", value)]
    told += [{"event": value, "data": value} for value in odd]
    told += [{"event": "RVMRPC_CONNECTED", "data": {"release": value}} for value in odd]
    with Fakes() as fakes:
        vm = fakes.add("vm", behave=tells(lambda: vm, *told))
        result = fakes.run("events", "vm", "-t", 3000)
        assert result.status == 6 and not result.err, result
        lines = [line.split(" ", 1)[1] for line in result.out.splitlines()]
        assert len(lines) == 5 * len(odd) and all(line.isprintable() for line in lines), lines
        assert lines[8:10] == ["out of memory: 1 (0) with 0 B is killed", "tasks wait for memory 0.0 % of the time"], lines
        assert lines[-len(odd):].count("a driver has registered, kernel -") == len(odd) - 1, lines


@case("help, man page and completion have every command and option")
def documented():
    """bash's completion runs; zsh's has the same words."""
    text = ok("--help").out
    commands = re.findall(r"^  ([a-z-]+)", text.split("Commands:\n")[1], re.M)
    options = set(re.findall(r"--[a-z]+", text.split("Application Options:")[1].split("Commands:")[0]))
    folder = TOP / "host-tools" / "rvmrpc"
    page = (folder / "rvmrpc.1").read_text().replace("\\-", "-")
    for name in commands:
        assert re.search(rf"^\.B[RI]? (.* )?\"?{name}\b", page, re.M), name
    for option in options:
        assert option in page, option
    for name in ("completion.bash", "completion.zsh"):
        words = (folder / name).read_text()
        for word in commands:
            assert re.search(rf"(?<![\w-]){word}(?![\w-])", words), (name, word)
        assert options <= set(re.findall(r"--[a-z]+", words)), (name, options - set(re.findall(r"--[a-z]+", words)))

    def complete(*words):
        script = ('. "$0"; COMP_WORDS=(rvmrpc "$@"); COMP_CWORD=$#; _rvmrpc; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "-c", script, folder / "completion.bash", *words], check=True, text=True,
                              stdout=subprocess.PIPE, timeout=10, env=environment(fakes.folder) |
                              {"PATH": f"{fakes.folder}:/usr/bin:/bin"})
        return done.stdout.split()
    with Fakes() as fakes:
        fakes.add("web1")
        os.symlink(RVMRPC, f"{fakes.folder}/rvmrpc")
        assert complete("d") == [name for name in commands if name.startswith("d")]
        assert complete("ps", "") == ["web1"]
        assert complete("ps", "web1", "--by", "") == ["pid", "memory", "cpu", "blocked"]
        assert complete("ps", "web1", "--b") == ["--by"]


if __name__ == "__main__":
    main(guests=False)
