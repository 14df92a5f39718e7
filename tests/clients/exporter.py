#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The exporter: scraped by hand, by promtool and by a real Prometheus."""
import json
import os
import pathlib
import re
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from fake import (ALL, ANSWER, MEMORY, SUBMIT, FakeVM, Frame, hang, info_answer,  # noqa: E402
                  only_submits, procedures, record, records_answer)
from harness import BUILD, VM, case, comment, main, wait_for  # noqa: E402
from tools import COMPLAINTS, EXPORTER, environment, free_port, told  # noqa: E402

PROMETHEUS = BUILD / "prometheus" / "prometheus"
PROMTOOL = BUILD / "prometheus" / "promtool"
HERE = pathlib.Path(__file__).resolve().parent
FILES = HERE.parents[1] / "host-tools" / "exporter"


def get(url, **headers):
    """(status, body) of an HTTP request."""
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Exporter:
    """The exporter for the sockets of one folder, with fakes in it.

    It has ten seconds for them; a case that is about its time says so.
    """

    def __init__(self, *args, address="127.0.0.1"):
        self.folder = tempfile.mkdtemp(prefix="rvmrpc-fakes-")
        self.vms = []
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.address = address
        self.args = args
        self.process = None

    def __enter__(self):
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [EXPORTER, "-l", f"{self.address}:{self.port}", "--timeout", "10000", *self.args],
            env=environment(self.folder), stderr=subprocess.PIPE, text=True)
        wait_for(self._listens, 20, "the exporter", interval=0.1)
        return self

    def _listens(self):
        assert self.process.poll() is None, self.process.stderr.read()
        try:
            return get(self.url + "/")[0] == 200
        except urllib.error.URLError:
            return False

    def __exit__(self, kind, *_):
        for vm in self.vms:
            vm.close()
        self.process.terminate()
        _, err = self.process.communicate(timeout=20)
        shutil.rmtree(self.folder)
        if kind is None:
            assert self.process.returncode == 0, (self.process.returncode, err)
            for word in COMPLAINTS:
                assert word not in err, err

    def add(self, file, **options):
        """One more fake."""
        self.vms.append(FakeVM(self.folder, file, **options))

    def soon(self, limit, **headers):
        """scrape(), which takes less: other work of the machine lets it, once in a few times."""
        for _ in range(4):
            text, seconds = self.scrape(**headers)
            if seconds < limit:
                break
        assert seconds < limit, seconds
        return text, seconds

    def scrape(self, **headers):
        """(text, seconds)"""
        start = time.monotonic()
        status, text = get(self.url + "/metrics", **headers)
        assert status == 200, text
        return text, time.monotonic() - start


def value(text, name, **labels):
    """The value of a sample, None when it is not there."""
    for line in text.splitlines():
        match = re.fullmatch(rf"{name}(?:{{(.*)}})? (\S+)", line)
        if match:
            have = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match.group(1) or ""))
            if labels.items() <= have.items():
                return float(match.group(2))
    return None


def promtool(text):
    """Fails unless promtool accepts the text without a word."""
    result = subprocess.run([PROMTOOL, "check", "metrics"], input=text, text=True, check=False,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert result.returncode == 0 and not result.stdout, result.stdout


@case("metrics of a fake VM, as promtool wants them")
def metrics():
    """Names, labels, values."""
    uuid = "11111111-2222-3333-4444-555555555555"
    with Exporter() as e:
        e.add("web", uuid=uuid)
        e.add("weird \\ \"name\"")
        who = {"domain": "web", "uuid": uuid}
        text, _ = told(e.scrape, lambda page: value(page[0], "rvmrpc_up", **who) == 1)
        promtool(text)
        for name, wanted in (
                ("up", 1), ("guest_memory_total_bytes", MEMORY[1]), ("guest_load1", 1.25),
                ("guest_memory_available_bytes", MEMORY[3]), ("guest_threads", 123),
                ("guest_cpus", 2), ("registrations_total", 1), ("ping_seconds", 0.00015)):
            assert value(text, "rvmrpc_" + name, **who) == wanted, name
        assert value(text, "rvmrpc_state", state="connected", **who) == 1
        assert value(text, "rvmrpc_state", state="paused", **who) == 0
        assert value(text, "rvmrpc_guest_info", os="linux", release="6.12-fake", **who) == 1
        assert value(text, "rvmrpc_up", domain='weird \\\\ \\"name\\"') == 1
        again, _ = told(e.scrape, lambda page: value(page[0], "rvmrpc_up", **who) == 1)
        for mode in ("user", "idle"):
            name = "rvmrpc_guest_cpu_seconds_total"
            assert value(again, name, mode=mode, **who) > value(text, name, mode=mode, **who)
        assert value(again, "rvmrpc_calls_total", result="ok", **who) >= 4
        assert value(again, "rvmrpc_call_duration_seconds_bucket", le="0.000064", **who) == 0
        assert value(again, "rvmrpc_call_duration_seconds_bucket", le="0.000128", **who) >= 4


@case("up, silent, paused, without driver and down are told apart")
def states():
    """In one scrape."""
    with Exporter("--timeout", "3000") as e:
        e.add("fine")
        e.add("paused", running=False)
        e.add("bare", state="disconnected")
        e.add("hung", behave=only_submits(hang))
        e.add("stuck", behave=hang)
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(e.folder + "/gone.sock")
        text, _ = e.scrape()
        promtool(text)
        for name, state in (("fine", "connected"), ("paused", "paused"), ("bare", "no-driver"),
                            ("hung", "silent"), ("stuck", "silent"), ("gone", "down")):
            assert value(text, "rvmrpc_state", domain=name, state=state) == 1, (name, state)
            assert value(text, "rvmrpc_up", domain=name) == (name == "fine"), name
        assert value(text, "rvmrpc_exporter_vms") == 6


def series(text, name):
    """{labels as text} of a metric."""
    return set(re.findall(rf"^{name}{{(.*)}} ", text, re.M))


@case("two VMs of one name do not spoil the page, nor change whose series is whose")
def twins():
    """Who comes before them in a list changes no label."""
    with Exporter() as e:
        e.add("b", name="twin", memory=1 << 30)
        e.add("c", name="twin", memory=2 << 30)
        before, _ = e.scrape()
        promtool(before)
        e.add("a", name="twin", memory=3 << 30)
        e.add("0", name="another")
        after, _ = e.scrape()
        promtool(after)
        assert len(series(before, "rvmrpc_up")) == 2
        assert series(before, "rvmrpc_up") < series(after, "rvmrpc_up"), (before, after)
        for vm in e.vms[:2]:
            for text in (before, after):
                assert value(text, "rvmrpc_guest_memory_total_bytes", socket=vm.path) == vm.memory


def cpustat(times):
    """Of a guest whose CPUs have these idle times, in seconds; None: offline."""
    def behave(frame, connection):
        if frame.kind != SUBMIT or (frame.module, frame.procedure) != (2, 3):
            return False
        items = [(3, 0, ALL, sum(s or 0 for s in times) * 10 ** 9)]
        items += [(3, 0, cpu, s * 10 ** 9) for cpu, s in enumerate(times) if s is not None]
        connection.sendall(Frame(ANSWER, info_answer(items), cookie=frame.cookie).pack())
        return True
    return behave


@case("CPU time never falls, but for a new boot")
def monotonic():
    """A CPU that was offline counts anew from less."""
    with Exporter() as e:
        times = [1000, 900]
        e.add("web", behave=cpustat(times))

        def idle(cpu):
            return value(e.scrape()[0], "rvmrpc_guest_cpu_seconds_total", domain="web", cpu=str(cpu), mode="idle")

        assert (idle(0), idle(1)) == (1000, 900)
        times[:] = [1001, None]
        assert (idle(0), idle(1)) == (1001, None)
        times[:] = [1002, 20]
        assert (idle(0), idle(1)) == (1002, 900)
        times[:] = [1003, 901]
        assert (idle(0), idle(1)) == (1003, 901)
        e.vms[0].epoch = 77
        times[:] = [3, 2]
        assert (idle(0), idle(1)) == (3, 2)


@case("what Prometheus' practices ask for")
def practices():
    """Sums of histograms, base units, labels' values, the exporter's own."""
    with Exporter("--timeout", "2500") as e:
        e.add("web")
        e.add("hung", behave=only_submits(hang))
        e.scrape()
        text, _ = e.soon(3.9)
        promtool(text)
        name = "rvmrpc_call_duration_seconds"
        count = value(text, name + "_count", domain="web")
        assert count > 0 and abs(value(text, name + "_sum", domain="web") - count * 90e-6) < 1e-9, text
        assert value(text, "rvmrpc_calls_total", domain="web", result="timed_out") == 0
        assert [value(text, "rvmrpc_events_total", domain="web", result=result)
                for result in ("told", "lost", "dropped")] == [7, 5, 3], text
        assert not re.search(r'="[^"]*-[^"]*"', "\n".join(
            line for line in text.splitlines() if "calls_total" in line).replace(e.folder, "")), text
        assert value(text, "rvmrpc_scrape_success", domain="web") == 1
        assert value(text, "rvmrpc_scrape_success", domain="hung") == 0
        assert 1.25 < value(text, "rvmrpc_exporter_scrape_duration_seconds") < 3.9
        assert value(text, "rvmrpc_exporter_build_info", version="0.2.0") == 1
        for line in re.findall(r"^# TYPE (\w+) counter$", text, re.M):
            assert line.endswith("_total"), line
        assert len({line.split()[2] for line in text.splitlines() if line.startswith("# HELP")}) == text.count("# TYPE")


PSI, VMSTAT, DISKS, BLOCKED, FS, NET, CLOCK = (6, 0), (6, 1), (6, 2), (7, 1), (9, 0), (10, 0), (11, 0)
LISTS = {"pressure": PSI, "vmstat": VMSTAT, "diskstats": DISKS, "tasks": BLOCKED, "filesystem": FS, "network": NET,
         "time": CLOCK}
SECOND = 10 ** 9


def clock(_frame):
    """Of a guest that is 90 s ahead and was booted an hour ago."""
    return records_answer([record(9, (1, time.time_ns() + 90 * SECOND), (2, 3600 * SECOND), (3, 3600 * SECOND))])


def whole():
    """Answers of a guest that has everything."""
    return {
        PSI: records_answer([record(1, (1, "cpu"), (5, 5 * SECOND)), record(1, (1, "irq"), (9, SECOND // 2)),
                             record(1, (1, "memory"), (5, 3 * SECOND), (9, 2 * SECOND)),
                             record(1, (1, "io"), (5, 7 * SECOND), (9, 6 * SECOND)), record(1, (1, "new"), (5, 1))]),
        VMSTAT: records_answer([record(2, *((key, 1000 + key) for key in range(1, 16)))]),
        DISKS: records_answer([record(3, (1, "vda"), *((key, key * SECOND) for key in range(3, 20))),
                               record(3, (1, "vda1"), (3, 1)), record(3, (1, "nvme0n1p2"), (3, 1)),
                               record(3, (1, "nvme0n1"), (3, 9)), record(3, (1, "loop3"), (3, 1))]),
        BLOCKED: records_answer([record(4, (1, pid), (2, pid), (3, "dd"), (4, "D"), (12, "io_schedule"))
                                 for pid in (7, 8, 9)]),
        FS: records_answer([record(6, (1, "/"), (2, "/dev/vda1"), (3, "ext4"), (6, 0), (8, 10 << 30), (9, 4 << 30),
                                   (10, 2 << 30), (11, 1000), (12, 250)),
                            record(6, (1, "/mnt"), (2, "server:/x"), (3, "nfs4"), (7, 1)),
                            record(6, (1, "/mnt"), (2, "server:/y"), (3, "nfs"), (7, 1), (8, 2 << 30), (13, 1)),
                            record(6, (1, "/bad"), (2, "/dev/vdz"), (3, "xfs"), (7, 3)),
                            record(6, (1, "/efi"), (2, "/dev/vda2"), (3, "vfat"), (6, 1), (8, 1 << 20), (9, 0),
                                   (10, 0))]),
        NET: records_answer([record(7, (1, 1), (2, "lo"), (4, 65536), (5, 1), (6, "unknown"), (7, 1), (8, 100)),
                             record(8, (1, 1), (2, bytes([127, 0, 0, 1])), (3, 8)),
                             record(7, (1, 2), (2, "eth0"), (3, bytes.fromhex("525400123456")), (4, 1500), (5, 1),
                                    (6, "up"), *((key, key * 10) for key in range(8, 16)))]),
        CLOCK: clock}


def successes(text, domain):
    """Whether each collector had all, by its name."""
    return {line.split('collector="')[1].split('"')[0]: int(line.split()[-1])
            for line in text.splitlines()
            if line.startswith("rvmrpc_guest_collector_success{") and f'domain="{domain}"' in line}


@case("lists of the guest, under names that end as node_exporter's")
def lists():
    """Each value; what is not told has no sample; partitions are left out."""
    with Exporter() as e:
        e.add("web", behave=procedures(whole()))
        text, _ = e.scrape()
        promtool(text)

        def got(name, **labels):
            return value(text, "rvmrpc_guest_" + name, domain="web", **labels)

        for name, wanted in (
                ("pressure_cpu_waiting_seconds_total", 5), ("pressure_memory_waiting_seconds_total", 3),
                ("pressure_memory_stalled_seconds_total", 2), ("pressure_io_waiting_seconds_total", 7),
                ("pressure_io_stalled_seconds_total", 6), ("pressure_irq_stalled_seconds_total", 0.5),
                ("vmstat_pgfault", 1002), ("vmstat_pgmajfault", 1003), ("vmstat_pgpgin", 1004),
                ("vmstat_pgpgout", 1005), ("vmstat_pswpin", 1006), ("vmstat_pswpout", 1007),
                ("vmstat_pgscan_kswapd", 1008), ("vmstat_pgscan_direct", 1009), ("vmstat_pgsteal_kswapd", 1010),
                ("vmstat_pgsteal_direct", 1011), ("vmstat_workingset_refault_anon", 1012),
                ("vmstat_workingset_refault_file", 1013), ("vmstat_allocstall", 1014), ("vmstat_oom_kill", 1015),
                ("procs_blocked", 3), ("procs_running", 2)):
            assert got(name) == wanted, (name, got(name))
        for name, wanted in (
                ("reads_completed_total", 3e9), ("reads_merged_total", 4e9), ("read_bytes_total", 5e9),
                ("read_time_seconds_total", 6), ("writes_completed_total", 7e9), ("writes_merged_total", 8e9),
                ("written_bytes_total", 9e9), ("write_time_seconds_total", 10), ("io_now", 11e9),
                ("io_time_seconds_total", 12), ("io_time_weighted_seconds_total", 13),
                ("discards_completed_total", 14e9), ("discarded_bytes_total", 16e9),
                ("discard_time_seconds_total", 17), ("flush_requests_total", 18e9),
                ("flush_requests_time_seconds_total", 19)):
            assert got("disk_" + name, device="vda") == wanted, name
        assert {line.split('device="')[1].split('"')[0] for line in text.splitlines()
                if line.startswith("rvmrpc_guest_disk_")} == {"vda", "nvme0n1"}, text
        for name, wanted in (("size_bytes", 10 << 30), ("free_bytes", 4 << 30), ("avail_bytes", 2 << 30),
                             ("files", 1000), ("files_free", 250), ("readonly", 0), ("device_error", 0)):
            assert got("filesystem_" + name, device="/dev/vda1", mountpoint="/", fstype="ext4") == wanted, name
        assert got("filesystem_files", mountpoint="/efi") is None and got("filesystem_readonly", mountpoint="/efi") == 1
        assert got("filesystem_device_error", mountpoint="/bad") == 1
        assert 'mountpoint="/mnt"' not in text
        for name, wanted in (
                ("mtu_bytes", 1500), ("up", 1), ("receive_bytes_total", 80), ("receive_packets_total", 90),
                ("receive_errs_total", 100), ("receive_drop_total", 110), ("transmit_bytes_total", 120),
                ("transmit_packets_total", 130), ("transmit_errs_total", 140), ("transmit_drop_total", 150)):
            assert got("network_" + name, device="eth0") == wanted, name
        assert got("network_info", device="eth0", address="52:54:00:12:34:56", operstate="up", adminstate="up") == 1
        assert got("network_up", device="lo") == 0 and got("network_transmit_bytes_total", device="lo") is None
        assert 89.9 < got("clock_skew_seconds") < 90.1 and got("clock_skew_error_seconds") < 1
        assert abs(got("time_seconds") - time.time() - 90) < 5
        assert got("uname_info", nodename="host", sysname="Fake") == 1
        assert successes(text, "web") == dict.fromkeys(("kernel", "uname", *LISTS), 1), text


@case("a guest that lacks or refuses a list, or answers nonsense: no sample, and it is told")
def refused():
    """The others of it are as ever."""
    answers = {**whole(), PSI: 1, FS: 6, NET: b"nonsense", DISKS: records_answer([record(3, (1, "sda"), (3, 4))], 0, 2)}
    with Exporter() as e:
        e.add("web", behave=procedures(answers))
        text, _ = e.scrape()
        promtool(text)
        assert value(text, "rvmrpc_scrape_success", domain="web") == 1
        told = successes(text, "web")
        assert {name for name, ok in told.items() if not ok} == {"pressure", "filesystem", "network", "diskstats"}, told
        for name in ("pressure", "filesystem", "network"):
            assert f"\nrvmrpc_guest_{name}_" not in text, name
        assert value(text, "rvmrpc_guest_disk_reads_completed_total", device="sda") == 4
        assert value(text, "rvmrpc_guest_vmstat_oom_kill") == 1015


@case("a list that hangs costs the others of its guest no more than half of the time, other guests nothing")
def hung_list():
    """In each place."""
    with Exporter("--timeout", "3000") as e:
        for name, which in LISTS.items():
            e.add(name, behave=procedures({**whole(), which: hang}))
        e.add("fine", behave=procedures(whole()))
        text, _ = e.soon(3.7)
        for name in LISTS:
            told = successes(text, name)
            assert [n for n, ok in told.items() if not ok] == [name], (name, told)
            assert value(text, "rvmrpc_up", domain=name) == value(text, "rvmrpc_scrape_success", domain=name) == 1
        assert all(successes(text, "fine").values())


@case("a hostile guest: neither how many it tells nor how long they are breaks the page or swells it")
def hostile():
    """Quotes, newlines, bytes that are no text, twins, 40,000 mounts."""
    evil = 'a"b\\c\nd\udcff\u202e'
    long = "x" * 3000

    def endless(kind, *fields):
        def answer(frame):
            first = int.from_bytes(frame.payload[:8], "little")
            return records_answer([record(kind, *((key, f"{first + i}{text}") for key, text in fields), (8, 5), (3, 5))
                                   for i in range(8)], first + 8, 1)
        return answer
    with Exporter() as e:
        e.add("evil", behave=procedures({
            **whole(),
            FS: records_answer([record(6, (1, evil), (2, "a"), (3, "b"), (8, n)) for n in range(9)]),
            NET: records_answer([record(7, (2, name), (3, bytes(range(40))), (4, 1)) for name in (long, long + "y", evil)]),
            DISKS: records_answer([record(3, (3, 7)), record(3, (1, ""), (3, 8)), record(3, (1, 9), (3, 9))])}))
        text, _ = e.scrape()
        promtool(text)
        evil_now = 'a\\"b\\\\c\\nd\ufffd\u202e'
        assert value(text, "rvmrpc_guest_filesystem_size_bytes", mountpoint=evil_now) == 0, text
        assert text.count("\nrvmrpc_guest_filesystem_size_bytes") == 1
        assert text.count("\nrvmrpc_guest_network_mtu_bytes") == 2 and "x" * 257 not in text
        assert value(text, "rvmrpc_guest_disk_reads_completed_total", device="") == 8, text
        e.add("endless", behave=procedures({**whole(), FS: endless(6, (1, long), (2, long), (3, long)),
                                            DISKS: endless(3, (1, "sd"))}))
        text, seconds = e.soon(1.6)
        promtool(text)
        assert successes(text, "endless")["filesystem"] == successes(text, "endless")["diskstats"] == 0
        mounts = text.count("\nrvmrpc_guest_filesystem_size_bytes")
        fat = []

        def one(frame):
            fat.append(frame)
            return records_answer([record(6, (1, "/"), (2, "a"), (3, "b"), (8, 1), (99, bytes(60000)))], len(fat), 1)
        e.add("fat", behave=procedures({**whole(), FS: one}))
        assert successes(e.scrape()[0], "fat")["filesystem"] == 0 and len(fat) < 20, len(fat)
        assert 100 < mounts < 300 and len(text) < 2 << 20, (mounts, len(text), seconds)


@case("blocked threads of which not all are told: how many there are is not said")
def many_blocked():
    """Their stacks are long: the exporter has enough long before it has 1024."""
    with Exporter() as e:
        deep = record(4, (1, 5), *[(12, "frame" * 10)] * 100)
        e.add("deep", behave=procedures({**whole(), (7, 1): lambda frame: records_answer(
            [deep] * 100, struct.unpack_from("<Q", frame.payload)[0] + 100, 1)}))
        e.add("many", behave=procedures({**whole(), (7, 1): lambda frame: records_answer(
            [record(4, (1, 5))] * 256, struct.unpack_from("<Q", frame.payload)[0] + 256, 1)}))
        text, _ = e.scrape()
        assert value(text, "rvmrpc_guest_procs_blocked", domain="deep") is None
        assert value(text, "rvmrpc_guest_procs_blocked", domain="many") == 1024


@case("--collector and --no-collector: what is not asked for costs the guest no call")
def chosen():
    """And has no metrics."""
    for args, wanted in ((("--collector", "pressure", "--collector=time"), {"pressure", "time"}),
                         (("--no-collector", "tasks", "--no-collector", "filesystem"),
                          {"kernel", "uname", *LISTS} - {"tasks", "filesystem"}),
                         (("--collector", "kernel", "--no-collector", "kernel"), set())):
        asked = set()

        def watch(frame, connection, seen=asked, behave=procedures(whole())):
            if frame.kind == SUBMIT:
                seen.add((frame.module, frame.procedure))
            return behave(frame, connection)
        with Exporter(*args) as e:
            e.add("web", behave=watch)
            text, _ = e.scrape()
            promtool(text)
            assert set(successes(text, "web")) == wanted, (args, text)
            lists_asked = {name for name, which in LISTS.items() if which in asked}
            assert lists_asked == wanted - {"kernel", "uname"}, (args, asked)
            assert ((2, 0) in asked) == ("kernel" in wanted) and ((2, 4) in asked) == ("uname" in wanted), asked
            assert value(text, "rvmrpc_up", domain="web") == value(text, "rvmrpc_scrape_success", domain="web") == 1
    with Exporter() as e:
        for option in ("--collector", "--no-collector"):
            result = subprocess.run([EXPORTER, option, "disks"], env=environment(e.folder), text=True,
                                    stderr=subprocess.PIPE, check=False, timeout=20)
            assert result.returncode == 2 and "no collector 'disks'; there are kernel, " in result.stderr, result


def all_up(e):
    """A scrape in which 30 fakes answer in time: all in this program, which other work of the machine may hold up."""
    for _ in range(4):
        text, seconds = e.scrape()
        up = sum(value(text, "rvmrpc_up", domain=f"vm{i:02}") for i in range(30))
        if up == 30 and seconds < 1.6:
            break
    assert up == 30 and seconds < 1.6, (up, seconds)
    return text, seconds


@case("32 VMs in one pass within the deadline, two of them hung (fakes)")
def many():
    """The deadline is the exporter's, or Prometheus' when that is shorter."""
    with Exporter("--timeout", "1000") as e:
        for i in range(30):
            e.add(f"vm{i:02}")
        text, seconds = all_up(e)
        assert text.count('rvmrpc_up{') == 30 and value(text, "rvmrpc_up", domain="vm29") == 1
        comment(f"30 fakes: {seconds * 1000:.0f} ms, {seconds / 30 * 1000:.1f} ms each (ASan; "
                "the fakes are Python)")
        e.add("hung", behave=only_submits(hang))
        e.add("stuck", behave=hang)
        text, seconds = all_up(e)
        promtool(text)
        comment(f"with two hung: {seconds * 1000:.0f} ms; deadline 1000 ms")
        e.soon(1.2, **{"X-Prometheus-Scrape-Timeout-Seconds": "0.8"})


@case("scrapes at the same time, other pages, --vm")
def pages():
    """No page but two; GET only."""
    uuid = "11111111-2222-3333-4444-55555555abcd"
    with Exporter("--vm", "a", "--vm", uuid.upper()) as e:
        e.add("a")
        e.add("b")
        e.add("c", uuid=uuid)
        texts = []
        threads = [threading.Thread(target=lambda: texts.append(e.scrape()[0]))
                   for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(texts) == 8
        for text in texts:
            assert value(text, "rvmrpc_up", domain="a") == 1 and 'domain="b"' not in text
            assert value(text, "rvmrpc_up", domain="c") == 1
        assert get(e.url + "/nope")[0] == 404
        request = urllib.request.Request(e.url + "/metrics", data=b"x", method="POST")
        try:
            urllib.request.urlopen(request, timeout=5)
            raise AssertionError("POST was taken")
        except urllib.error.HTTPError as error:
            assert error.code == 405


def connect(e, count):
    """So many connections that say nothing yet."""
    return [socket.create_connection(("127.0.0.1", e.port), timeout=20) for _ in range(count)]


def trickle(connections, stop, every=0.3):
    """Sends a request that never ends, byte by byte, on all; a new one when it is ended."""
    endless = b"GET /metrics HTTP/1.1\r\nX-Long: " + b"a" * 100000
    at = 0
    while not stop.is_set():
        for connection in connections:
            try:
                connection.send(endless[at:at + 1])
            except OSError:
                pass
        at += 1
        time.sleep(every)


def ended(connection, seconds):
    """The other side ends it within that time; what it said before that."""
    connection.settimeout(seconds)
    text = b""
    try:
        while chunk := connection.recv(65536):
            text += chunk
    except ConnectionResetError:
        pass
    return text


@case("silent and slow connections, however many, keep nobody from an answer", timeout=90, count=16)
@case("more of them than there are places", timeout=90, count=200)
def crowds(count):
    """Each has one time for all that it says, and gives way to others before that: that of a scrape and 10 s."""
    with Exporter("--timeout", "1000") as e:
        e.add("web")
        crowd = connect(e, count)
        stop = threading.Event()
        slow = threading.Thread(target=trickle, args=(crowd[::2], stop))
        slow.start()
        try:
            for _ in range(3):
                wait_for(lambda: value(e.soon(3)[0], "rvmrpc_up", domain="web") == 1, 10, "the VM's answer in its second")
                time.sleep(0.5)
            start = time.monotonic()
            for connection in (crowd[-1], crowd[-2]):
                assert b"200 OK" not in ended(connection, 30), "it was answered"
            assert time.monotonic() - start < 15
        finally:
            stop.set()
            slow.join()
            for connection in crowd:
                connection.close()


@case("who does not read the answer loses it; others do not wait", timeout=60)
def unread():
    """The request is whole; 60 VMs make a page that a small buffer does not hold."""
    with Exporter() as e:
        for i in range(60):
            e.add(f"vm{i:02}")
        crowd = connect(e, 70)
        for connection in crowd:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        for connection in crowd[:4]:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        text, _ = e.scrape()
        assert len(text) > 100000 and value(text, "rvmrpc_exporter_vms") == 60
        for connection in crowd:
            connection.close()


def cpu_seconds(pid):
    """CPU time of a process."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@case("at the limit of descriptors it waits instead of spinning")
def descriptors():
    """And answers once it has some again."""
    with Exporter() as e:
        e.add("web")
        e.scrape()
        time.sleep(0.5)
        pid = e.process.pid
        old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")), old[1]))
        waiting = connect(e, 3)
        before = cpu_seconds(pid)
        time.sleep(2)
        used = cpu_seconds(pid) - before
        comment(f"{used:.2f} s of CPU time in 2 s")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, old)
        for connection in waiting:
            connection.close()
        wait_for(lambda: value(e.scrape()[0], "rvmrpc_up", domain="web") == 1, 10, "an answer")
        assert used < 0.4, used


@case("[::] has IPv4's addresses, too")
def dual_stack():
    """And [::1] has not."""
    with Exporter(address="[::]") as e:
        assert get(f"http://[::1]:{e.port}/")[0] == get(f"http://127.0.0.1:{e.port}/")[0] == 200


@case("bad options and a port in use: an error and its exit status")
def bad_options():
    """2 for options, 1 for the rest."""
    with Exporter() as e:
        for args, status, text in ((("-l", "nowhere"), 2, "ADDRESS:PORT"),
                                   (("-l", "127.0.0.1:99999"), 2, "ADDRESS:PORT"),
                                   (("-t", "0"), 2, "--timeout"), (("extra",), 2, "arguments"),
                                   (("-l", f"127.0.0.1:{e.port}"), 1, "cannot listen")):
            result = subprocess.run([EXPORTER, *args], env=environment(e.folder), text=True,
                                    stderr=subprocess.PIPE, check=False, timeout=20)
            assert result.returncode == status and text in result.stderr, (args, result)


def dashboard():
    """Grafana's dashboard, and its queries: (panel, expression)."""
    board = json.loads((FILES / "grafana-dashboard.json").read_text(encoding="utf-8"))
    return board, [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel.get("targets", ())]


@case("alert rules: promtool takes them, and each fires of the guest that has its fault, and of no other")
def alerts():
    """Their unit tests, which know each of them; promtool says when one of those is wrong."""
    rules, tests = FILES / "alert-rules.yml", HERE / "alert-rules-test.yml"
    for words in (("check", "rules", rules), ("test", "rules", tests)):
        result = subprocess.run([PROMTOOL, *words], cwd=HERE, text=True, check=False, timeout=60,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert result.returncode == 0 and "SUCCESS" in result.stdout, result.stdout
    names = re.findall(r"^  - alert: (\w+)$", rules.read_text(encoding="utf-8"), re.M)
    text = tests.read_text(encoding="utf-8")
    assert len(names) > 15 and len(set(names)) == len(names)
    assert set(re.findall(r'alertname="(\w+)"', text)) == set(names)
    wrong = text.replace("available_bytes{domain=\"sick\"}', values: '40x190'",
                         "available_bytes{domain=\"sick\"}', values: '60x190'").replace("../..", str(HERE.parents[1]))
    assert wrong.count("'60x190'") == 1
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        file.write(wrong)
        file.flush()
        result = subprocess.run([PROMTOOL, "test", "rules", file.name], text=True, check=False, timeout=60,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert result.returncode and "RvmrpcGuestMemoryLow" in result.stdout, result.stdout


@case("the dashboard: each panel has a place, a name and a query of metrics that there are")
def board_form():
    """And the rules' and the manual's metrics are the exporter's, too."""
    board, queries = dashboard()
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert cells and not cells & taken and all(x < 24 for x, _ in cells), panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["targets"] and panel["datasource"]["uid"] == "${datasource}", panel
    with Exporter() as e:
        e.add("web", behave=procedures(whole()))
        text, _ = e.scrape()
    have = set(re.findall(r"^# TYPE (\w+) ", text, re.M))
    have |= {name + end for name in have for end in ("_bucket", "_sum", "_count")}
    texts = [("dashboard", "\n".join(query for _, query in queries))]
    texts += [(file.name, file.read_text(encoding="utf-8"))
              for file in (FILES / "alert-rules.yml", HERE / "alert-rules-test.yml", HERE.parents[1] / "docs/operators.md")]
    for where, words in texts:
        # Names of groups and files have dashes, or end in none of a metric's letters.
        used = set(re.findall(r"\brvmrpc_(?:guest_\w+|up|state|scrape_\w+|call_\w+|calls_\w+|registrations\w*|ping\w*|"
                              r"last_\w+|exporter_\w+)", words))
        assert used and used <= have, (where, used - have)


class Prometheus:
    """A real one, with the alert rules, that scrapes an exporter every second; .port"""

    def __init__(self, exporter, folder):
        self.port = free_port()
        config = pathlib.Path(folder, "prometheus.yml")
        config.write_text(f"global:\n  evaluation_interval: 1s\nrule_files: ['{FILES}/alert-rules.yml']\n"
                          "scrape_configs:\n- job_name: rvmrpc\n  scrape_interval: 1s\n  static_configs:\n"
                          f"  - targets: ['127.0.0.1:{exporter.port}']\n", encoding="ascii")
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={folder}/db",
             f"--web.listen-address=127.0.0.1:{self.port}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=20)

    def ask(self, path, **parameters):
        """What it answers; None while it does not."""
        try:
            status, text = get(f"http://127.0.0.1:{self.port}/api/v1/{path}?" + urllib.parse.urlencode(parameters))
            answer = json.loads(text)
        except (urllib.error.URLError, ConnectionError, ValueError):
            return None
        assert status == 200 and answer["status"] == "success", (path, parameters, answer)
        return answer["data"]

    def query(self, expression):
        """The series that an expression gives."""
        return (self.ask("query", query=expression) or {}).get("result", [])


def of_the_dashboard(prometheus):
    """{(panel, expression): how many series}, of this guest and the last seconds."""
    counts = {}
    for title, expression in dashboard()[1]:
        for name, text in (("$__rate_interval", "10s"), ("$__range", "10s"), ("$host", ".*"), ("$vm", "web")):
            expression = expression.replace(name, text)
        assert "$" not in expression, (title, expression)
        counts[title, expression] = len(prometheus.query(expression))
    return counts


def beside_the_guests_own(vm, prometheus):
    """Values in Prometheus and what the guest's own commands say."""
    def got(name, **labels):
        more = "".join(f',{key}="{text}"' for key, text in labels.items())
        # There is none while a scrape took longer than its second.
        (found,) = wait_for(lambda: prometheus.query(f'rvmrpc_guest_{name}{{domain="web"{more}}}'), 20, name, interval=0.3)
        return float(found["value"][1])

    size, _, free = (int(n) * 1024 for n in vm.guest.check("df -k /data | tail -n 1").split()[1:4])
    assert (got("filesystem_size_bytes", mountpoint="/data"), got("filesystem_avail_bytes", mountpoint="/data")) == (size, free)
    assert got("network_mtu_bytes", device="eth0") == int(vm.guest.check("cat /sys/class/net/eth0/mtu"))
    vm.guest.check("kill $(cat /tmp/busy)")

    def disk_agrees():
        sectors = int(vm.guest.check("grep -w vda /proc/diskstats").split()[5])
        return got("disk_read_bytes_total", device="vda") == sectors * 512 > 1 << 20
    wait_for(disk_agrees, 10, "what the disk read", interval=0.5)
    assert got("boot_time_seconds") == int(vm.guest.check("grep btime /proc/stat").split()[1])
    assert abs(got("clock_skew_seconds")) < 5
    before = got("pressure_cpu_waiting_seconds_total")
    own = int(vm.guest.check("grep some /proc/pressure/cpu").split("total=")[1]) / 1e6
    wait_for(lambda: got("pressure_cpu_waiting_seconds_total") >= own, 10, "the guest's CPU pressure", interval=0.5)
    assert before <= own
    wait_for(lambda: {line["metric"]["collector"]: line["value"][1] for line in
                      prometheus.query("rvmrpc_guest_collector_success")} == dict.fromkeys(("kernel", "uname", *LISTS), "1"),
             20, "all collectors' success", interval=0.5)


def active(vm):
    """Something to see: a file system, a network, a disk that is read and written."""
    vm.guest.check("mkdir /data && modprobe -a crc32c_generic ext4 loop virtio_blk virtio_net && "
                   "dd if=/dev/zero of=/tmp/image bs=1M count=24 2>/dev/null && mke2fs -F /tmp/image >/dev/null && "
                   "mount -o loop /tmp/image /data && ip link set lo up && ip addr add 192.0.2.7/25 dev eth0 && "
                   "ip link set eth0 up", timeout=60)
    # Anew each time, or the cache would have it.
    vm.guest.check("(i=0; while [ $i -lt 40 ]; do dd if=/dev/vda of=/dev/null bs=64k count=16 skip=$((i * 16)); "
                   "dd if=/dev/zero of=/dev/vda bs=64k count=16 conv=fsync; i=$((i + 1)); sleep 0.7; done) >/dev/null 2>&1 & echo $! > /tmp/busy")


# Debian's kernels do not account for the time of interrupts.
NOT_OF_DEBIAN = {"Held up by interrupts"}


@case("a real Prometheus scrapes a real guest: its memory, its own truth, every query of the dashboard, every rule",
      timeout=150)
def prometheus_and_guest():
    """Debian's package; available memory lies between two of QMP's."""
    with Exporter() as e, VM(device_opts=f"socket={e.folder}/web.sock", memory="384M", append="psi=1",
                             extra=["-name", "web", "-blockdev", "null-co,node-name=null,size=67108864,read-zeroes=on",
                                    "-device", "virtio-blk-pci,drive=null", "-nic", "user,model=virtio,restrict=on"]) as vm, \
            tempfile.TemporaryDirectory() as folder, Prometheus(e, folder) as prometheus:
        active(vm)
        before = vm.qmp.cmd("guest-meminfo")
        found = wait_for(lambda: prometheus.query('rvmrpc_guest_memory_available_bytes{domain="web"}'), 60,
                         "a value in Prometheus", interval=0.3)
        after = vm.qmp.cmd("guest-meminfo")
        got = int(found[0]["value"][1])
        low, high = sorted((before["available"], after["available"]))
        assert low - before["total"] / 50 <= got <= high + before["total"] / 50, (got, before, after)
        assert found[0]["metric"]["job"] == "rvmrpc"
        wait_for(lambda: prometheus.query('rate(rvmrpc_guest_cpu_seconds_total{domain="web",mode="idle"}[10s]) > 0'), 30,
                 "a rate of CPU time", interval=0.5)
        wait_for(lambda: prometheus.query("up == 1"), 20, "a scrape that succeeds", interval=0.3)
        counts = {}

        def all_have():
            counts.update(of_the_dashboard(prometheus))
            return {title for (title, _), count in counts.items() if not count} == NOT_OF_DEBIAN
        try:
            wait_for(all_have, 25, "series of every query", interval=1)
        finally:
            comment(f"{len(counts)} queries; without series: {[key for key, count in counts.items() if not count]}")
        beside_the_guests_own(vm, prometheus)
        rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        bad = [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"]
        assert len(rules) > 15 and not bad, (len(rules), bad)
        firing = [rule["name"] for rule in rules if rule["state"] == "firing"]
        assert not firing, firing


if __name__ == "__main__":
    main()
