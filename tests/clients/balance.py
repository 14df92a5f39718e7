#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""rvmrpc balance, on fakes: whom it asks for memory, and whom it leaves alone."""
import json
import os
import pathlib
import re
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from fake import ALL, Fakes, SUBMIT, hang, info_answer, procedures, record, records_answer  # noqa: E402
from harness import case, comment, main  # noqa: E402
from tools import told  # noqa: E402

MIB, GIB = 1 << 20, 1 << 30
NOT_ALLOWED, TIMED_OUT = 6, 10
MEMINFO, SHRINK, PSI, VMSTAT = (2, 0), (3, 1), (6, 0), (6, 1)
DONE, EXHAUSTED = 0, 1


class Host:
    """A host with guests; what they free it has."""

    def __init__(self, fakes, available):
        self.fakes, self.available = fakes, available
        self.file = os.path.join(fakes.folder, "meminfo")
        self.write()

    def write(self):
        """Never half of it."""
        pathlib.Path(self.file + ".new").write_text(
            f"MemTotal: {32 * GIB // 1024} kB\nMemAvailable: {self.available // 1024} kB\n", encoding="ascii")
        os.rename(self.file + ".new", self.file)

    def give(self, size):
        """More of it, or less."""
        self.available += size
        self.write()

    def run(self, *args, **more):
        """The command, with rounds that follow each other quickly."""
        return self.fakes.run("balance", "-i", "0.1", "-t", "10000", *args, RVMRPC_MEMINFO=self.file, **more)

    def rounds(self, *args):
        """What each round says, as JSON, with the VMs by their names."""
        result = self.run("--json", *args)
        assert result.status == 0 and not result.err, result
        all_rounds = [json.loads(line) for line in result.out.splitlines()]
        for one in all_rounds:
            one["vms"] = {vm["name"]: vm for vm in one["vms"]}
        return all_rounds


class Guest:
    """One whose cache shrinks as it is asked to. psi: percent of 10 s."""

    def __init__(self, host, name, *, cached=2 * GIB, free=512 * MIB, total=4 * GIB, psi=0.0, refault=0, **options):
        self.host, self.total, self.free, self.cached, self.psi = host, total, free, cached, psi
        self.refault, self.refaults, self.asked = refault, 0, []
        self.answers = {MEMINFO: self.meminfo, SHRINK: self.shrink, PSI: self.pressure, VMSTAT: self.vmstat}
        self.fake = host.fakes.add(name, behave=procedures(self.answers), **options)

    def meminfo(self, _frame):
        """Nothing but its cache can be had."""
        return info_answer([(key, 0, ALL, min(value, 2 ** 64 - 1)) for key, value in
                            ((1, self.total), (2, self.free), (3, self.free + self.cached), (5, self.cached))])

    def pressure(self, _frame):
        """Of memory alone."""
        return records_answer([record(1, (1, "cpu"), (2, 9900)), record(1, (1, "memory"), (2, int(self.psi * 100)))])

    def vmstat(self, _frame):
        """As many pages are read again at each look."""
        self.refaults += self.refault
        return records_answer([record(2, (1, 4096), (6, 7), (12, 0), (13, self.refaults), (14, 0))])

    def shrink(self, frame):
        """As much as there is; the host has it at once."""
        (wanted,) = struct.unpack("<Q", frame.payload)
        self.asked.append(wanted)
        got = min(wanted, self.cached)
        self.cached -= got
        self.free += got
        self.host.give(got)
        return struct.pack("<QQII", got, got, DONE if got == wanted else EXHAUSTED, 0)


def reasons(rounds, name):
    """Of one VM, round by round."""
    return [one["vms"][name]["reason"] for one in rounds]


@case("three guests, one idle with cache, one busy, one at its floor: the target is met from the first only")
def three():
    """And no more is taken than that."""
    with Fakes() as fakes:
        host = Host(fakes, 3 * GIB)
        idle, busy = Guest(host, "idle"), Guest(host, "busy", psi=12.5)
        floor = Guest(host, "floor", free=2 * GIB)
        rounds = host.rounds("--target", "4G", "--floor", "floor=2047M", "-n", 8)
        comment(" ".join(f"{one['available'] / MIB:.0f}" for one in rounds) + " MiB available, round by round")
        assert reasons(rounds, "idle")[:3] == ["first-look", "asked", "asked"], rounds
        assert set(reasons(rounds, "idle")[3:]) == {"enough"}
        assert set(reasons(rounds, "busy")) == {"first-look", "pressure", "enough"}, rounds
        assert set(reasons(rounds, "floor")) == {"first-look", "floor", "enough"}, rounds
        assert not busy.asked and not floor.asked
        # The half of what it can spare, then the rest of what is missing: 1 GiB and the hysteresis.
        assert idle.asked == [GIB, 256 * MIB], idle.asked
        assert host.available == 4 * GIB + 256 * MIB and rounds[-1]["available"] == host.available
        assert [one["asking"] for one in rounds] == [True] * 3 + [False] * 5


@case("hysteresis: asked again below the target only, and not in between")
def hysteresis():
    """By its own rounds: the host's memory falls while it runs."""
    with Fakes() as fakes:
        host = Host(fakes, 4 * GIB + 10 * MIB)
        guest = Guest(host, "vm")
        looks = []

        def watch(frame, answer=guest.meminfo):
            looks.append(host.available)
            if len(looks) == 4:
                host.give(-20 * MIB)
            return answer(frame)
        guest.answers[MEMINFO] = watch
        rounds = host.rounds("--target", "4G", "-n", 8)
        assert reasons(rounds, "vm") == ["enough"] * 3 + ["asked"] + ["enough"] * 4, rounds
        assert guest.asked == [266 * MIB], guest.asked


@case("--dry-run explains each decision, and asks nobody")
def dry_run():
    """In words, for each reason there is."""
    with Fakes() as fakes:
        host = Host(fakes, 3 * GIB)
        guests = [Guest(host, "idle"), Guest(host, "busy", psi=12.5), Guest(host, "atfloor", free=3 * GIB, cached=GIB),
                  Guest(host, "hot", refault=100000), Guest(host, "small", cached=20 * MIB, free=100 * MIB),
                  Guest(host, "other", cached=GIB)]
        mute = Guest(host, "mute")
        mute.answers[VMSTAT] = NOT_ALLOWED
        # Busy perhaps: that it could not be asked is not that it has none.
        Guest(host, "unsaid", psi=12.5).answers[PSI] = TIMED_OUT
        Guest(host, "nopsi", cached=GIB).answers[PSI] = records_answer([])
        fakes.add("away", state="disconnected")
        for args in (("--once",), ("-n", 4)):
            # Other work of the machine may have one found late.
            text = told(lambda args=args: host.run("--target", "3500M", "--floor", "atfloor=1020M", "--dry-run", *args).out,
                        lambda out: "first time" not in out.split("the host has")[-1]).split("the host has")[-1]
            for line in (
                    r" 3\.0 GiB available, its target is 3\.4 GiB: 646\.8 MiB to be asked for",
                    r"  idle: asked for 646\.8 MiB: it has 2\.0 GiB to spare, reads 0\.00 MiB/s again, and waits for memory 0\.00 % "
                    r"of the time", r"  busy: not asked: its tasks wait for memory 12\.50 % of the time",
                    r"  atfloor: not asked: it has 1\.0 GiB in use, its floor is 1\.0 GiB",
                    r"  hot: not asked: its cache is in use, it reads \d+\.\d\d MiB/s again",
                    r"  small: not asked: it has only 20\.0 MiB to spare",
                    r"  other: not asked: has 1\.0 GiB to spare, and others' cache is colder or larger",
                    r"  mute: not asked: its kernel does not tell what it reads again", r"  away: not asked: no-driver",
                    r"  unsaid: not asked: its kernel does not tell how long its tasks wait for memory",
                    r"  nopsi: not asked: has 1\.0 GiB to spare, and others' cache is colder or larger"):
                assert re.search(f"^{line}$", text, re.M), (line, text)
        assert not any(guest.asked for guest in [*guests, mute])
        host.give(4 * GIB)
        assert "idle: not asked: the host has enough" in host.run("--target", "4G", "--dry-run", "--once").out
        assert host.run("--target", "4G", "--once", "idle").out.count("\n") == 2


@case("a guest that frees nothing, refuses, or hangs is asked less and less, and keeps nobody waiting", timeout=60)
def useless():
    """What it says is of no use: only what the host gets."""
    with Fakes() as fakes:
        host = Host(fakes, 2 * GIB)
        names = {"nothing": struct.pack("<QQII", 0, 0, EXHAUSTED, 0), "refuses": NOT_ALLOWED, "short": bytes(3),
                 "liar": struct.pack("<QQII", 1 << 60, 1 << 60, DONE, 0), "hangs": hang}
        asked = dict.fromkeys(names, 0)
        for name, answer in names.items():
            guest = Guest(host, name, cached=3 * GIB)

            def shrink(_frame, name=name, answer=answer):
                asked[name] += 1
                return answer
            guest.answers[SHRINK] = shrink
        good = Guest(host, "good", cached=2 * GIB)
        result = host.run("--target", "3G", "-n", 16, "-t", 1000)
        comment(f"asked {asked} times in 16 rounds; good gave {sum(good.asked) >> 20} MiB")
        assert result.status == 0 and host.available >= 3 * GIB, result
        for name, count in asked.items():
            assert 1 <= count <= (8 if name == "liar" else 4), (asked, result.out)
        assert re.search(r"^  refuses: failed: .*allow-list", result.out, re.M), result.out
        assert re.search(r"^  nothing: freed 0 B in \d\.\d\d s: it found no more$", result.out, re.M), result.out
        assert "hangs: failed" in result.out and "short: failed" in result.out
        # Nobody gives anything: that is worth a word, once.
        del good.answers[SHRINK]
        host.give(-2 * GIB)
        err = host.run("--target", "3G", "-n", 16, "-t", 300, "liar").err
        assert err.count("free-page-reporting=on") <= 1, err


@case("when its pressure rises a guest is left alone, whatever it could spare")
def rising():
    """After it was asked once, the programs that it runs want their cache."""
    with Fakes() as fakes:
        host = Host(fakes, 1 * GIB)
        guest = Guest(host, "vm", cached=3 * GIB)

        def shrink(frame, usual=guest.shrink):
            guest.psi = 0.8
            return usual(frame)
        guest.answers[SHRINK] = shrink
        rounds = host.rounds("--target", "8G", "-n", 6)
        assert reasons(rounds, "vm") == ["first-look", "asked", "rising", "waits", "waits", "waits"], rounds
        assert len(guest.asked) == 1


@case("whatever a guest tells: no floor is broken, nothing is asked that it has not")
def hostile():
    """Numbers that overflow, that contradict each other, and counters that run backwards."""
    with Fakes() as fakes:
        host = Host(fakes, 1 * GIB)
        most = 2 ** 64 - 1
        vms = [Guest(host, "huge", total=most, free=0, cached=most), Guest(host, "more-free-than-all", total=GIB, free=most),
               Guest(host, "none", total=0, free=0, cached=0)]
        back = Guest(host, "backwards")
        back.refaults, back.refault = 1 << 40, -1000
        result = host.run("--target", "2G", "--floor", "1G", "-n", 3)
        assert result.status == 0, result
        assert vms[0].asked and max(vms[0].asked) <= GIB + GIB // 8 and not vms[2].asked, [vm.asked for vm in vms]
        assert not back.asked and "backwards: not asked: it was seen for the first time" in result.out, result
        # A new boot is another guest.
        guest = Guest(host, "boots")
        epochs = iter(range(1, 100))

        def meminfo(frame, usual=guest.meminfo):
            guest.fake.epoch = next(epochs)
            return usual(frame)
        guest.answers[MEMINFO] = meminfo
        rounds = host.rounds("--target", "20G", "-n", 4, "boots")
        assert set(reasons(rounds, "boots")) == {"first-look"}, rounds


@case("a VM that does not say in time who it is keeps the floor that it may have")
def nameless():
    """It is known by its file's name then, and has a floor by its own."""
    with Fakes() as fakes:
        host = Host(fakes, 3 * GIB)
        guest = Guest(host, "x")
        guest.fake.name = "db1"

        def late(frame, connection, usual=guest.fake.behave):
            if frame.kind != SUBMIT:
                time.sleep(1)
            return usual(frame, connection)
        guest.fake.behave = late
        result = host.run("--target", "8G", "--floor", "db1=4G", "-n", 3)
        assert not guest.asked, (guest.asked, result)
        assert "x: not asked: it did not say in time which VM it is" in result.out, result


@case("the file and the options; what is wrong with them")
def configuration():
    """Options go first; a floor by name, by UUID in letters of any size and for all others."""
    uuid = "11111111-2222-3333-4444-55555555abcd"
    with Fakes() as fakes:
        host = Host(fakes, 3 * GIB)
        for name in ("a", "b", "c"):
            Guest(host, name, psi=1.5, uuid=uuid if name == "b" else None)
        file = pathlib.Path(fakes.folder, "balance.conf")
        file.write_text(f"[balance]\ntarget=4G\nfloor=100M\npressure=2\ninterval=0.1\n\n[vm a]\nfloor=200M\n"
                        f"[vm {uuid.upper()}]\nfloor=300M\n", encoding="ascii")
        (one,) = told(lambda: host.rounds("--config", file, "--dry-run", "--once", "--floor", "a=250M"),
                      lambda rounds: rounds[0]["vms"]["b"]["floor"] != 100 * MIB)
        assert {name: vm["floor"] // MIB for name, vm in one["vms"].items()} == {"a": 250, "b": 300, "c": 100}, one
        assert one["target"] == 4 * GIB and one["vms"]["a"]["reason"] == "asked", one
        (one,) = host.rounds("--config", file, "--dry-run", "--once", "--target", "5G", uuid.upper())
        assert one["target"] == 5 * GIB and list(one["vms"]) == ["b"], one
        for text, words in (("[balance]\ntarget=much\n", r"balance\.conf: \[balance\] target: 'much' is no size"),
                            ("[balance]\npressure=nan\n", r"\[balance\] pressure: 'nan' is not from 0\.01 to 100"),
                            ("[balance]\nspeed=1\n", r"\[balance\] speed: there is no such key; \[balance\] has target"),
                            ("[vm a]\ntarget=1\n", r"\[vm a\] target: there is no such key"),
                            ("[balance]\nfloor=1G\n", "how much memory shall the host have available"),
                            ("target=1G\n", "does not start with a group")):
            file.write_text(text, encoding="ascii")
            result = host.run("--config", file)
            assert result.status == 2 and re.search(words, result.err), (text, result)
        for args, words in ((("--target", "x"), "--target: 'x' is no size"), ((), "--target SIZE"),
                            (("--target", "1G", "--floor", "a=b"), "--floor: 'b' is no size"),
                            (("--config", "/nowhere", "--target", "1G"), "/nowhere: ")):
            result = host.run(*args)
            assert result.status == 2 and words in result.err, (args, result)
        result = host.run("--target", "1G", "--once", "nobody")
        assert result.status == 0 and "no VM nobody now; it is asked once it is there" in result.err, result
        # By what else rvmrpc(1) has a VM named.
        for what in (os.getpid(), f"{fakes.folder}/a.sock"):
            result = host.run("--target", "1G", "--once", what)
            assert not result.err and re.search("^  a: ", result.out, re.M), (what, result)
        # What is no number is not 0.
        for text in ("MemAvailable:", "MemAvailable: many kB\n", None):
            if text is None:
                os.unlink(host.file)
            else:
                pathlib.Path(host.file).write_text(text, encoding="ascii")
            result = host.run("--target", "1G")
            assert result.status == 1 and "cannot tell what this host has available" in result.err, (text, result)


if __name__ == "__main__":
    main(guests=False)
