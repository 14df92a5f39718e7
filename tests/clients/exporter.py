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
                  only_submits)
from harness import BUILD, VM, case, comment, main, wait_for  # noqa: E402
from tools import COMPLAINTS, EXPORTER, environment  # noqa: E402

PROMETHEUS = BUILD / "prometheus" / "prometheus"
PROMTOOL = BUILD / "prometheus" / "promtool"


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(url, **headers):
    """(status, body) of an HTTP request."""
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Exporter:
    """The exporter for the sockets of one folder, with fakes in it."""

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
            [EXPORTER, "-l", f"{self.address}:{self.port}", *self.args],
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
        text, _ = e.scrape()
        promtool(text)
        who = {"domain": "web", "uuid": uuid}
        for name, wanted in (
                ("up", 1), ("guest_memory_total_bytes", MEMORY[1]), ("guest_load1", 1.25),
                ("guest_memory_available_bytes", MEMORY[3]), ("guest_threads", 123),
                ("guest_cpus", 2), ("registrations_total", 1), ("ping_seconds", 0.00015)):
            assert value(text, "rvmrpc_" + name, **who) == wanted, name
        assert value(text, "rvmrpc_state", state="connected", **who) == 1
        assert value(text, "rvmrpc_state", state="paused", **who) == 0
        assert value(text, "rvmrpc_guest_info", os="linux", release="6.12-fake", **who) == 1
        assert value(text, "rvmrpc_up", domain='weird \\\\ \\"name\\"') == 1
        again, _ = e.scrape()
        for mode in ("user", "idle"):
            name = "rvmrpc_guest_cpu_seconds_total"
            assert value(again, name, mode=mode, **who) > value(text, name, mode=mode, **who)
        assert value(again, "rvmrpc_calls_total", result="ok", **who) >= 4
        assert value(again, "rvmrpc_call_duration_seconds_bucket", le="0.000064", **who) == 0
        assert value(again, "rvmrpc_call_duration_seconds_bucket", le="0.000128", **who) >= 4


@case("up, silent, paused, without driver and down are told apart")
def states():
    """In one scrape."""
    with Exporter("--timeout", "600") as e:
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
    with Exporter("--timeout", "600") as e:
        e.add("web")
        e.add("hung", behave=only_submits(hang))
        e.scrape()
        text, _ = e.scrape()
        promtool(text)
        name = "rvmrpc_call_duration_seconds"
        count = value(text, name + "_count", domain="web")
        assert count > 0 and abs(value(text, name + "_sum", domain="web") - count * 90e-6) < 1e-9, text
        assert value(text, "rvmrpc_calls_total", domain="web", result="timed_out") == 0
        assert not re.search(r'="[^"]*-[^"]*"', "\n".join(
            line for line in text.splitlines() if "calls_total" in line).replace(e.folder, "")), text
        assert value(text, "rvmrpc_scrape_success", domain="web") == 1
        assert value(text, "rvmrpc_scrape_success", domain="hung") == 0
        assert 0.3 < value(text, "rvmrpc_exporter_scrape_duration_seconds") < 2
        assert value(text, "rvmrpc_exporter_build_info", version="0.1.0") == 1
        for line in re.findall(r"^# TYPE (\w+) counter$", text, re.M):
            assert line.endswith("_total"), line
        assert len({line.split()[2] for line in text.splitlines() if line.startswith("# HELP")}) == text.count("# TYPE")


@case("32 VMs in one pass within the deadline, two of them hung (fakes)")
def many():
    """The deadline is the exporter's, or Prometheus' when that is shorter."""
    with Exporter() as e:
        for i in range(30):
            e.add(f"vm{i:02}")
        text, seconds = e.scrape()
        assert text.count('rvmrpc_up{') == 30 and value(text, "rvmrpc_up", domain="vm29") == 1
        comment(f"30 fakes: {seconds * 1000:.0f} ms, {seconds / 30 * 1000:.1f} ms each (ASan; "
                "the fakes are Python)")
        e.add("hung", behave=only_submits(hang))
        e.add("stuck", behave=hang)
        text, seconds = e.scrape()
        promtool(text)
        up = sum(value(text, "rvmrpc_up", domain=f"vm{i:02}") for i in range(30))
        assert up == 30 and seconds < 1.6, (up, seconds)
        comment(f"with two hung: {seconds * 1000:.0f} ms; deadline 1000 ms")
        text, seconds = e.scrape(**{"X-Prometheus-Scrape-Timeout-Seconds": "0.8"})
        assert seconds < 1.2, seconds


@case("scrapes at the same time, other pages, --vm")
def pages():
    """No page but two; GET only."""
    with Exporter("--vm", "a") as e:
        e.add("a")
        e.add("b")
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
    """Each has one time for all that it says, and gives way to others before that."""
    with Exporter() as e:
        e.add("web")
        crowd = connect(e, count)
        stop = threading.Event()
        slow = threading.Thread(target=trickle, args=(crowd[::2], stop))
        slow.start()
        try:
            for _ in range(3):
                text, seconds = e.scrape()
                assert value(text, "rvmrpc_up", domain="web") == 1 and seconds < 3, seconds
                time.sleep(0.5)
            start = time.monotonic()
            for connection in (crowd[-1], crowd[-2]):
                assert b"200 OK" not in ended(connection, 20), "it was answered"
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


def query(port, expression):
    """What Prometheus answers to a query."""
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    return json.loads(get(url)[1])["data"]["result"]


@case("a real Prometheus scrapes a real guest and answers for its memory", timeout=120)
def prometheus():
    """Debian's package; the value lies between two of QMP's."""
    with Exporter() as e, VM(device_opts=f"socket={e.folder}/web.sock",
                             extra=["-name", "web"]) as vm, \
            tempfile.TemporaryDirectory() as data:
        port = free_port()
        config = pathlib.Path(data, "prometheus.yml")
        config.write_text("scrape_configs:\n- job_name: rvmrpc\n  scrape_interval: 1s\n"
                          "  static_configs:\n"
                          f"  - targets: ['127.0.0.1:{e.port}']\n", encoding="ascii")
        with subprocess.Popen(
                [PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={data}/db",
                 f"--web.listen-address=127.0.0.1:{port}"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                def answer():
                    try:
                        return query(port, 'rvmrpc_guest_memory_available_bytes{domain="web"}')
                    except (urllib.error.URLError, ConnectionError, ValueError, KeyError):
                        return None

                before = vm.qmp.cmd("guest-meminfo")
                found = wait_for(answer, 60, "a value in Prometheus", interval=0.3)
                after = vm.qmp.cmd("guest-meminfo")
                got = int(found[0]["value"][1])
                low, high = sorted((before["available"], after["available"]))
                assert low - before["total"] / 50 <= got <= high + before["total"] / 50, \
                    (got, before, after)
                assert found[0]["metric"]["job"] == "rvmrpc"
                wait_for(lambda: query(port, 'rate(rvmrpc_guest_cpu_seconds_total'
                                       '{domain="web",mode="idle"}[10s]) > 0'),
                         30, "a rate of CPU time", interval=0.5)
                assert query(port, "up")[0]["value"][1] == "1"
            finally:
                process.terminate()


if __name__ == "__main__":
    main()
