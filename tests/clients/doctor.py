#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""rvmrpc doctor on fakes that have each sickness; the commands on a real guest, against its own truth."""
import concurrent.futures
import os
import pathlib
import re
import stat
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from fake import ALL, Fakes, SUBMIT, hang, info_answer, procedures, record, records_answer  # noqa: E402
from harness import case, comment, main  # noqa: E402
from tools import soon  # noqa: E402

MORE, PARTIAL = 1, 2
NOT_ALLOWED, BUSY = 6, 7
NULL, MEMINFO, CPUSTAT = (0, 0), (2, 0), (2, 3)
PSI, VMSTAT, DISKS, TASKS, BLOCKED = (6, 0), (6, 1), (6, 2), (7, 0), (7, 1)
LOG, FS, CLOCK, FREEZE = (8, 0), (9, 0), (11, 0), (13, 2)


def task(pid, name, rss=0, cpu=0, *more):
    """A record TASK."""
    return record(4, (1, pid), (3, name), (4, "S"), (8, 1), (9, rss), (10, cpu), *more)


def memory(**values):
    """meminfo of 4 GiB, all but what is said free."""
    keys = {"total": 1, "free": 2, "available": 3, "cached": 5, "anon": 12, "shared": 14, "slab": 17, "swap": 22,
            "swap_free": 23}
    values = {"total": 4 << 30, "free": 3 << 30, "available": 3 << 30, **values}
    return info_answer([(keys[name], 0, ALL, value) for name, value in values.items()])


class Growing:
    """CPU time and the like, that grow with each look by their share of the time between."""

    def __init__(self):
        self.start = time.monotonic()

    def ns(self, share):
        """So much by now."""
        return int((time.monotonic() - self.start) * 1e9 * share)

    def cpus(self, *shares):
        """cpustat: (user, system) of each CPU, the rest idle; None: it stands."""
        def answer(_frame):
            items, total = [], [0, 0, 0]
            for cpu, share in enumerate(shares):
                user, system = share or (0, 0)
                now = [self.ns(user), self.ns(system), self.ns(1 - user - system) if share else 0]
                total = [a + b for a, b in zip(total, now)]
                items += [(key, 0, cpu, value) for key, value in zip((1, 2, 3), now)]
            return info_answer([(key, 0, ALL, value) for key, value in zip((1, 2, 3), total)] + items)
        return answer


def healthy(**other):
    """A guest that nothing is wrong with, but for what is said by name."""
    grow = Growing()
    answers = {
        "NULL": b"", "MEMINFO": memory(), "CPUSTAT": grow.cpus((0.1, 0.1), (0.1, 0.1)),
        "PSI": records_answer([record(1, (1, name), (2, 0), (6, 0)) for name in ("cpu", "memory", "io")]),
        "VMSTAT": records_answer([record(2, (1, 4096), (15, 0))]),
        "DISKS": records_answer([record(3, (1, "vda"), (2, 254 << 32), (3, 100), (7, 100), (11, 0))]),
        "TASKS": records_answer([task(1, "init", 8 << 20), task(700, "sshd", 6 << 20)]),
        "BLOCKED": records_answer([]), "LOG": records_answer([record(5, (1, 9), (4, 10**9), (5, "Linux version"))]),
        "FS": records_answer([record(6, (1, "/"), (2, "/dev/vda1"), (3, "ext4"), (5, 1), (6, 0), (8, 10 << 30),
                                     (9, 5 << 30), (10, 5 << 30), (11, 1000), (12, 900))]),
        "CLOCK": lambda _frame: records_answer([record(9, (1, time.time_ns()), (3, 60 * 10**9))]),
        "FREEZE": bytes(24)}
    answers.update(other)
    return procedures({globals()[name]: answer for name, answer in answers.items()})


def findings(fakes, name, *words):
    """{code: [sentences]} and the result, of a doctor's JSON."""
    result = fakes.run("doctor", name, "--json", "-t", 10000, *words)
    assert result.status == 0 and not result.err, result
    found = {}
    for finding in result.json()["findings"]:
        found.setdefault(finding["code"], []).append(finding["text"])
    return found, result


def all_findings(fakes, names):
    """Of several VMs: their doctors mostly wait."""
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        return list(pool.map(lambda name: findings(fakes, name), names))


@case("a healthy guest: nothing is wrong, and each section is there")
def nothing():
    """As text, and into a file that others cannot read."""
    with Fakes() as fakes:
        fakes.add("vm", behave=healthy())
        path = f"{fakes.folder}/report"
        short = soon(3, lambda: fakes.run("doctor", "vm", "--output", path, "-t", 10000))
        assert short.out == "  - nothing was found that is wrong\n", short
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        text = pathlib.Path(path).read_text(encoding="utf-8")
        for title in ("What is wrong", "Channel", "Memory, by what", "Pressure", "Processes that have most memory",
                      "Blocked tasks", "File systems", "Processes that use most CPU", "Disks", "The kernel's last"):
            assert f"\n{title}" in text, (title, text)
        assert "not known" not in text and "Linux version" in text, text
        result = fakes.run("doctor", "vm", "-o", "/dev/full")
        assert result.status == 1 and "No space left" in result.err and pathlib.Path("/dev/full").is_char_device()


SICK = {
    "java": ("out-of-memory", r"out of memory: java \(PID 812\) has 3\.1 of 4\.0 GiB; 20\.0 MiB available", {
        "MEMINFO": memory(free=10 << 20, available=20 << 20),
        "TASKS": records_answer([task(812, "java", int(3.1 * 2**30)), task(1, "init", 1 << 20)])}),
    "many": ("out-of-memory", r"out of memory: 300 processes called php have 2\.9 of 4\.0 GiB; ", {
        "MEMINFO": memory(free=10 << 20, available=20 << 20),
        "TASKS": records_answer([task(n, "php", 10 << 20) for n in range(2, 302)] +
                                [task(n, f"other{n}") for n in range(302, 1000)])}),
    "tmpfs": ("out-of-memory", r"files in memory \(tmpfs, shared memory\) have 3\.0 of 4\.0 GiB", {
        "MEMINFO": memory(free=10 << 20, available=0, shared=3 << 30, cached=3 << 30)}),
    "slab": ("out-of-memory", r"objects of the kernel \(slab\) have 3\.5 of 4\.0 GiB; 0 B available", {
        "MEMINFO": memory(free=10 << 20, available=0, slab=int(3.5 * 2**30))}),
    "nobody": ("out-of-memory", r"no one has much of it; most has init, 8\.0 MiB of 4\.0 GiB", {
        "MEMINFO": memory(free=10 << 20, available=0)}),
    "swap": ("swap-full", r"swap is full: 1\.0 MiB of 1\.0 GiB left|swap is full: 1\.0 MiB of 1024\.0 MiB left",
             {"MEMINFO": memory(swap=1 << 30, swap_free=1 << 20)}),
    "kills": ("oom-kills", "3 processes were killed", {"VMSTAT": records_answer([record(2, (15, 3))])}),
    "blocked": ("blocked", r"14 tasks wait in jbd2_log_wait_commit: dd, dd, dd, dd, \.\.\.$", {
        "BLOCKED": records_answer([record(4, (1, n), (2, n), (3, "dd"), (4, "D"), *((12, f) for f in (
            "__schedule", "schedule", "jbd2_log_wait_commit", "ext4_sync_file"))) for n in range(14)])}),
    "nostack": ("blocked", r"1 task waits in the kernel, it does not tell where: sh", {
        "BLOCKED": records_answer([record(4, (1, 5), (2, 5), (3, "sh"), (4, "D"))])}),
    "word": ("blocked", r"1 task waits in nfsreq: sh$", {
        "BLOCKED": records_answer([record(4, (1, 5), (2, 5), (3, "sh"), (4, "D"), (13, "nfsreq"))])}),
    "disk": ("disk-stuck", r"^vdb has 12 requests in flight and finished none in \d+\.\d s", {
        "DISKS": records_answer([record(3, (1, name), (2, n), (3, 7), (11, 12)) for n, name in
                                 enumerate(("vdb", "vdb1"))])}),
    "full": ("filesystem-full", r"^/ is full: 0 B of 9\.8 GiB left$", {
        "FS": records_answer([record(6, (1, where), (5, 1), (8, int(9.8 * 2**30)), (9, 1 << 20), (10, 0))
                              for where in ("/", "/again")])}),
    "nearly": ("filesystem-full", r"^/var is nearly full: 3\.0 of 100\.0 GiB left$", {
        "FS": records_answer([record(6, (1, "/var"), (5, 1), (8, 100 << 30), (9, 3 << 30), (10, 3 << 30))])}),
    "inodes": ("inodes-full", r"^/ has no inodes: 3 of 1000 left$", {
        "FS": records_answer([record(6, (1, "/"), (5, 1), (8, 100), (9, 99), (10, 99), (11, 1000), (12, 3))])}),
    "frozen": ("frozen", r"^3 file systems are frozen for a copy; it thaws by itself in 30 s", {
        "FREEZE": struct.pack("<6I", 2, 3, 0, 0, 30000, 0)}),
    "bomb": ("many-processes", r"^400 of 402 processes are called sh$", {
        "TASKS": records_answer([task(1, "init"), task(2, "sshd")] + [task(n, "sh") for n in range(3, 403)])}),
    "stopped": ("user-space-stands", r"^user space stands: 2 of 3 processes are stopped, 1 of them by a frozen cgroup, the first "
                "process too$", {
                    "TASKS": records_answer([task(1, "init", 0, 0, (14, 1)), task(2, "kthreadd", 0, 0, (7, 1)),
                                             record(4, (1, 3), (3, "sshd"), (4, "T")), task(4, "sh")])}),
    "io": ("io-pressure", r"^tasks wait for disks: 95 % of the last 10 s, all of them 90 %$", {
        "PSI": records_answer([record(1, (1, "io"), (2, 9500), (6, 9000))])}),
    "panic": ("log", r"^its kernel said 5 s ago: BUG: unable to handle page fault", {
        "LOG": records_answer([record(5, (1, 1), (4, 55 * 10**9), (5, "BUG: unable to handle page fault"))])}),
    "late": ("clock", r"^its clock is (3599|360\d)\.\d s behind ours", {
        "CLOCK": lambda _f: records_answer([record(9, (1, time.time_ns() - 3600 * 10**9), (3, 1))])}),
    "stuck-cpu": ("cpu-stands", r"^CPU 1 counts no time", {"CPUSTAT": Growing().cpus((0.1, 0.1), None)}),
}


@case("each sickness is called by its name, and no other is")
def sick():
    """One after the other, all else in health."""
    with Fakes() as fakes:
        for name, (_, _, other) in SICK.items():
            fakes.add(name, behave=healthy(**other))
        for (name, (code, sentence, _)), (found, _) in zip(SICK.items(), all_findings(fakes, SICK)):
            assert list(found) == [code] and len(found[code]) == 1, (name, found)
            assert re.search(sentence, found[code][0]), (name, found)


@case("disks that stand: each by its name, without its partitions")
def disks():
    """A name that begins with another's is another disk."""
    names = ["sda", "sda1", "sdaa", "nvme0n1", "nvme0n1p1", "dm-1", "dm-10"]
    with Fakes() as fakes:
        fakes.add("vm", behave=healthy(DISKS=records_answer([record(3, (1, name), (2, n), (3, 7), (11, 1))
                                                              for n, name in enumerate(names)])))
        found, _ = findings(fakes, "vm")
        assert [text.split()[0] for text in found["disk-stuck"]] == ["sda", "sdaa", "nvme0n1", "dm-1", "dm-10"], found


@case("a CPU that the kernel keeps, and who has it")
def spins():
    """By two looks."""
    grow, users = Growing(), 0

    def tasks(_frame):
        return records_answer([task(1, "init"), task(44, "kworker/1:2", 0, grow.ns(0.99), (7, 1))] +
                              [task(n, "busy", 0, grow.ns(3)) for n in range(50, 50 + users)])
    with Fakes() as fakes:
        fakes.add("vm", behave=healthy(CPUSTAT=grow.cpus((0.1, 0.1), (0, 1)), TASKS=tasks))
        found, result = findings(fakes, "vm")
        assert set(found) == {"kernel-spins", "cpu-in-kernel"}, found
        assert re.match(r"the kernel's thread kworker/1:2 \(PID 44\) keeps a CPU: \d+ %", found["kernel-spins"][0])
        assert found["cpu-in-kernel"][0].startswith("CPU 1 is in the kernel all the time; most by kworker/1:2 "), found
        busiest = result.json()["parts"]["tasks"]["busiest"]
        assert [t["pid"] for t in busiest] == [44] and 80 < busiest[0]["cpu-percent"] < 120, busiest
        # However many programs of several threads use more.
        users = 9
        assert "kernel-spins" in findings(fakes, "vm")[0]


@case("what cannot be found out is said, and never taken for no")
def unknown():
    """Each part refused, hung, malformed, cut short; the rest is there."""
    parts = {"MEMINFO": "memory", "PSI": "pressure", "VMSTAT": "vmstat", "CPUSTAT": "cpu", "BLOCKED": "blocked",
             "FS": "filesystems", "DISKS": "disks", "FREEZE": "freeze", "CLOCK": "clock", "LOG": "log"}
    with Fakes() as fakes:
        why = {"refused": (NOT_ALLOWED, "allow-list"), "bad": (b"\1\2\3", "malformed")}
        names = [(name, how) for number, name in enumerate(parts) for how in list(why)[number % 2:number % 2 + 1]]
        for name, how in names:
            fakes.add(f"{name}-{how}", behave=healthy(**{name: why[how][0]}))
        for (name, how), (found, result) in zip(names, all_findings(fakes, ["-".join(pair) for pair in names])):
            assert list(found) == ["nothing-found", "unknown"] and "in what could be asked" in found["nothing-found"][0]
            assert len(found["unknown"]) == 1 and why[how][1] in found["unknown"][0], found
            got = result.json()["parts"]
            assert [part for part in got if not got[part]["known"]] == [parts[name]], (name, got)
            assert why[how][1] in got[parts[name]]["error"], (name, got)
        fakes.add("hung", behave=healthy(FS=hang, LOG=NOT_ALLOWED, BLOCKED=BUSY))
        # The time of the one that hangs, and what it takes otherwise.
        result = soon(4.1, lambda: fakes.run("doctor", "hung", "-t", 1500))
        assert result.out.count("- cannot say ") == 3, result
        assert re.search(r"- cannot say how full its file systems are: .*does not answer", result.out), result
        assert re.search(r"\nFile systems\n  not known: .*does not answer", result.out), result
        assert "  of 2 processes, in " in result.out, result
        fakes.add("cut", behave=healthy(
            FS=lambda frame: hang if struct.unpack("<Q", frame.payload[:8])[0] else records_answer([], 1, MORE),
            TASKS=records_answer([task(1, "init")], 0, PARTIAL), PSI=records_answer([])))
        found, _ = findings(fakes, "cut", "-t", 1500)
        assert any("all of how full its file systems are" in s for s in found["unknown"]), found
        assert any("all of which processes run" in s for s in found["unknown"]), found
        assert any("psi=1" in s for s in found["unknown"]), found
        stale = record(6, (1, "/nfs"), (7, 1), (8, 10 << 30), (9, 0), (10, 0), (13, 1))
        fakes.add("failed", behave=healthy(FS=records_answer([record(6, (1, "/mnt"), (7, 3)), stale])))
        assert findings(fakes, "failed")[0] == {"unknown": [
            "cannot say how full /mnt is: the guest asked it, and that failed"]}
        full = record(6, (1, "/var"), (5, 99), (8, 10 << 30), (9, 0), (10, 0))
        fakes.add("many", behave=healthy(FS=records_answer([record(6, (1, f"/mnt{n}"), (7, 3)) for n in range(9)] + [full])))
        found, _ = findings(fakes, "many")
        assert len(found["unknown"]) == 5 and found["filesystem-full"] == ["/var is full: 0 B of 10.0 GiB left"], found


@case("the second look is missing, or not whole: that is no answer either")
def once():
    """Of disks, tasks and CPUs, which are looked at twice."""
    def first(answer, then):
        answers = [answer]
        return lambda _frame: answers.pop() if answers else then
    with Fakes() as fakes:
        stuck = records_answer([record(3, (1, "vda"), (2, 1), (3, 7), (11, 1))])
        fakes.add("disks", behave=healthy(DISKS=first(stuck, BUSY)))
        found, _ = findings(fakes, "disks")
        assert found == {"unknown": ["cannot say whether its disks hang, 1 of which had requests in flight: they could be looked at "
                                     "only once"]}, found
        waits = record(4, (1, 5), (2, 5), (3, "sh"), (4, "D"))
        fakes.add("cut", behave=healthy(BLOCKED=first(records_answer([waits]), records_answer([], 0, PARTIAL))))
        found, result = findings(fakes, "cut")
        assert found.get("unknown") == ["cannot say all of which tasks hang: the guest could not look at everything in time"], found
        assert not result.json()["parts"]["blocked"]["whole"], result
        init = records_answer([task(1, "init")])
        for name in ("tasks", "text"):
            some = first(init, BUSY)
            # Those that have most memory are another list.
            fakes.add(name, behave=healthy(TASKS=lambda frame, some=some: init if frame.payload[8] else some(frame)))
        found, result = findings(fakes, "tasks")
        assert found == {"unknown": ["cannot say which processes use CPU time: they could be looked at only once"]}, found
        assert "busiest" not in result.json()["parts"]["tasks"], result
        text = fakes.run("doctor", "text", "-t", 10000).out
        assert "use most CPU time now\n  not known: they could be looked at only once\n" in text, text


@case("a guest that answers nothing, or ceases to, is asked no more")
def dead():
    """Each call that is not answered keeps one of its slots."""
    asked = []

    def count(behave):
        def wrapped(frame, connection):
            if frame.kind == SUBMIT:
                asked.append((frame.module, frame.procedure))
            return behave(frame, connection)
        return wrapped
    with Fakes() as fakes:
        fakes.add("dead", behave=count(healthy(NULL=hang)))
        for _ in range(3):
            del asked[:]
            found, result = findings(fakes, "dead", "-t", 300)
            assert asked == [NULL], asked
            # Other work of the machine makes it longer.
            if result.seconds < 1.5:
                break
        assert result.seconds < 1.5, result.seconds
        assert "does not answer a null call" in found["no-answer"][0] and len(found["unknown"]) == 1, found
        assert found["unknown"][0].startswith("cannot say anything of what its kernel knows: ") and "nothing-found" not in found, found
        del asked[:]
        state = {"null": 0}

        def once(frame):
            state["null"] += 1
            return b"" if state["null"] == 1 else hang
        fakes.add("dies", behave=count(healthy(NULL=once, **{name: hang for name in (
            "MEMINFO", "PSI", "VMSTAT", "CPUSTAT", "TASKS", "BLOCKED", "FS", "DISKS", "FREEZE", "CLOCK", "LOG")})))
        for _ in range(3):
            del asked[:]
            state["null"] = 0
            found, result = findings(fakes, "dies", "-t", 1500)
            assert len(asked) <= 1 + 3 + 3, asked
            # Three at a time, then a null call each.
            if result.seconds < 2 * 1.5 + 2.4:
                break
        assert result.seconds < 2 * 1.5 + 2.4, result.seconds
        assert "ceased to answer" in found["no-answer"][0] and "nothing-found" not in found, found
        nulls = [BUSY, b""]
        fakes.add("busy", behave=healthy(FS=hang, NULL=lambda _frame: nulls.pop() if nulls else BUSY))
        found, result = findings(fakes, "busy", "-t", 1500)
        assert "no-answer" not in found and len(found["unknown"]) == 1, found
        for name, options, status, code in (("paused", {"running": False}, 9, "paused"),
                                            ("bare", {"state": "disconnected"}, 8, "no-driver")):
            fakes.add(name, behave=procedures({NULL: status}), **options)
            found, _ = findings(fakes, name)
            assert set(found) == {code, "unknown"} and len(found["unknown"]) == 1, found
        assert fakes.run("doctor", "nobody").status == 3
        fakes.add("qemu-hangs", behave=hang)
        assert fakes.run("doctor", f"{fakes.folder}/qemu-hangs.sock", "-t", 300).status == 6


@case("a hostile guest: escapes, endless lists and names, and numbers without sense")
def hostile():
    """Bounded in time and text; no terminal sees a control character."""
    evil = "\033[2J\u202eevil\udcff"
    huge = 2**64 - 1

    def endless(frame):
        return records_answer([task(n, f"{evil}{n}", huge, huge) for n in range(100)],
                              struct.unpack("<Q", frame.payload[:8])[0] + 1, MORE)
    blocked = records_answer([record(4, (1, n), (2, n), (3, evil), (12, f"{evil}{n}")) for n in range(300)])
    with Fakes() as fakes:
        fakes.add("evil", behave=healthy(
            MEMINFO=memory(total=1, free=huge, available=0, shared=huge, cached=huge, swap=huge, swap_free=0),
            TASKS=endless, BLOCKED=blocked, PSI=records_answer([record(1, (1, "io"), (2, huge), (6, huge))]),
            DISKS=records_answer([record(3, (1, f"{evil}{n}"), (2, n), (11, huge), (3, huge)) for n in range(500)]),
            FS=records_answer([record(6, (1, f"{evil}{n}"), (5, n), (8, huge), (10, 0)) for n in range(500)]),
            LOG=records_answer([record(5, (1, huge), (4, huge), (5, f"BUG: {evil}\n" + "x" * 9000))]),
            CPUSTAT=info_answer([(key, 0, cpu, huge) for key in (1, 2, 3) for cpu in (ALL, 0, 1)]),
            CLOCK=records_answer([record(9, (1, 2**63 - 1), (3, huge))]), FREEZE=b"\xff" * 24))
        result = fakes.run("doctor", "evil", timeout=60)
        assert result.status == 0 and "\\x1b[2J" in result.out and result.seconds < 20, result.seconds
        assert not re.search("[\0-\x08\x0b-\x1f\x7f\u202a-\u202e]", result.out), result.out[:2000]
        first = result.out.split("\nChannel\n")[0]
        assert len(first) < 10000 and first.count(" is full: ") == 6 and first.count("in flight") == 5, first
        comment(f"{result.seconds:.1f} s, {len(result.out)} bytes")
        assert fakes.run("doctor", "evil", "--json", timeout=60).json()["parts"]["log"]["known"]
        # As many CPUs as it likes, and as many processes that may have them.
        grow = Growing()
        fakes.add("cpus", behave=healthy(CPUSTAT=grow.cpus(*[(0, 1)] * 900), TASKS=lambda _frame: records_answer(
            [task(n, "x", 0, grow.ns(0.9)) for n in range(5000)])))
        result = soon(15, lambda: fakes.run("doctor", "cpus", "-t", 10000, timeout=60))
        assert result.out.split("\nChannel\n")[0].count("in the kernel all the time") == 5, result.out[:2000]


if __name__ == "__main__":
    main(guests=False)
