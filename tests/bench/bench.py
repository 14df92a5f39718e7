#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""bench: measures calls into a guest's kernel, their peers and their limit.

One boot, interleaved and warm. Writes a JSON file, and a report with a table and
plots. A number that misses its target does not fail the run; the report says so.
"""
import argparse
import contextlib
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

# pylint: disable=wrong-import-position
import growth
import report
import rows
import stand as stands
import tunnels
import waiting
import window

QUICK = {"rounds": 2, "divide": 10, "payload": 5, "flood_ms": 300, "again": 1, "ask": 2, "ask_s": 3,
         "idle_s": 3, "job_s": 1, "turns": 1, "stream": 4 << 20, "streams": 1, "vcpus": (1,)}
FULL = {"rounds": 8, "divide": 1, "payload": 40, "flood_ms": 1000, "again": 5, "ask": 5, "ask_s": 6,
        "idle_s": 300, "job_s": 1, "turns": 12, "stream": 32 << 20, "streams": 5, "vcpus": waiting.VCPUS}
PARTS = ("core", "rows", "payload", "clients", "vms", "states", "forward", "jobs", "idle")
# Of guests that they start themselves.
ALONE = ("core", "jobs", "idle")
# What there is of the rows beside their limit.
GROUPS = {"kernel": rows.kernel_rows, "socket": rows.socket_rows, "window": window.client_rows,
          "rvmrpcd": window.daemon_rows, "peers": rows.peer_rows}


def parse():
    """The options."""
    p = argparse.ArgumentParser(prog="bench", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--accel", choices=("tcg", "nested", "kvm"), default="tcg",
                   help="tcg: guests on this machine; nested: in a host with emulated SVM and "
                        "our KVM; kvm: guests of this machine's KVM (default: tcg)")
    p.add_argument("--quick", action="store_true", help="few calls: does it work at all")
    p.add_argument("--json", type=pathlib.Path, required=True, metavar="FILE")
    p.add_argument("--report", type=pathlib.Path, required=True, metavar="DIR")
    p.add_argument("--rounds", type=int, help=f"of the calls (default: {FULL['rounds']})")
    p.add_argument("--vcpus", type=int, choices=waiting.VCPUS, help="of the jobs and the idle guests (default: each)")
    p.add_argument("--only", help=f"some of {', '.join(PARTS)}, or of the rows some of {', '.join(GROUPS)}; "
                   "comma separated")
    return p.parse_args()


def say(text):
    """Progress."""
    print(f"==> {text}", file=sys.stderr, flush=True)


def all_rows(stand, others, parts, result):
    """What is measured here, in the order of the first round; others ends what only they need."""
    found = rows.limit_rows(stand)
    for name, make in GROUPS.items():
        if "rows" in parts or name in parts:
            attempt(result, name, lambda make=make: make(stand, others))
            found += result.pop(name, [])
    if any("in place" in row.name for row in found):
        found += rows.memcpy_rows(stand)
    control = rows.control_row(stand)
    return found + [control] * any(control.name.endswith(row.name) for row in found)


def attempt(result, name, step):
    """One part; when it breaks, the others still count, and the report names it."""
    say(name)
    start = time.monotonic()
    try:
        result[name] = step()
    except Exception as error:  # pylint: disable=broad-except
        result.setdefault("broken", {})[name] = f"{type(error).__name__}: {error}"
        say(f"{name} broke: {error}")
    say(f"{name}: {time.monotonic() - start:.0f} s")


def with_peers(stand, size, parts, result):
    """The parts that need the guest with every peer; the rows."""
    found = []
    say("starting a guest with every peer")
    stand.start()
    stands.settle(2)
    if set(parts) & {"rows", *GROUPS}:
        say("calls, interleaved")
        with contextlib.ExitStack() as others:
            found = all_rows(stand, others, parts, result)
            rows.measure(stand, found, size["rounds"], size["divide"])
        stand.set_wait(rows.ADAPTIVE_US)
        stand.set_spin(None)
    steps = {"payload": lambda: growth.payload(stand, size["payload"], size["again"]),
             "clients": lambda: growth.clients(stand, size["flood_ms"], size["again"]),
             "vms": lambda: growth.machines(stand, size["flood_ms"]),
             "states": lambda: growth.states(stand, size["ask"], size["ask_s"]),
             "forward": lambda: tunnels.forward(stand, size["stream"], size["streams"])}
    for name, step in steps.items():
        if name in parts:
            attempt(result, name, step)
    stand.vm.stop()
    return found


def halves(rounds, calls):
    """Both halves of the core in two threads of this machine, without a guest: its CPUs are not emulated."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    return json.loads(subprocess.run([stands.BUILD / "bench" / "bench_halves", *map(str, (*cpus, rounds, calls))],
                                     check=True, capture_output=True, timeout=120).stdout)


def run(stand, size, parts):
    """{part: result}, and the rows."""
    found, result = [], {}
    if "core" in parts:
        attempt(result, "core", lambda: halves(size["rounds"], 200000 // size["divide"]))
    if not set(parts) - {"core"}:
        return found, result
    stand.start_host()
    if set(parts) - set(ALONE):
        found = with_peers(stand, size, parts, result)
    if "jobs" in parts:
        attempt(result, "jobs", lambda: waiting.jobs(
            stand, size["job_s"], size["turns"], size["vcpus"]))
    if "idle" in parts:
        attempt(result, "idle", lambda: waiting.idle(stand, size["idle_s"], size["vcpus"]))
    return found, result


def loadavg():
    """This machine's load, of the last minute."""
    return float(pathlib.Path("/proc/loadavg").read_text(encoding="ascii").split()[0])


def cpu_times():
    """(all, idle, stolen, our own) seconds of CPU time so far; our own are those of processes that have ended."""
    with open("/proc/stat", encoding="ascii") as f:
        ticks = [int(word) for word in f.readline().split()[1:9]]
    own = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return [value / os.sysconf("SC_CLK_TCK") for value in
            (sum(ticks), ticks[3] + ticks[4], ticks[7])] + [own]


def disturbance(before, after):
    """What part of the machine's CPU time meanwhile was others'."""
    whole, idle, stolen, own = (b - a for a, b in zip(before, after))
    return {"other_percent": round(100 * max(0, whole - idle - stolen - own) / whole, 1),
            "stolen_percent": round(100 * stolen / whole, 1)}


def main():
    """Measures and writes."""
    o = parse()
    size = dict(QUICK if o.quick else FULL)
    if o.rounds:
        size["rounds"] = o.rounds
    if o.vcpus:
        size["vcpus"] = (o.vcpus,)
    parts = o.only.split(",") if o.only else PARTS
    if set(parts) - {*PARTS, *GROUPS}:
        sys.exit(f"bench: there is no part {', '.join(set(parts) - {*PARTS, *GROUPS})}")
    stand = stands.make_stand(o.accel)
    about = {"accel": o.accel, "quick": o.quick, "date": time.strftime("%Y-%m-%d"),
             "load_before": loadavg()}
    start, times = time.monotonic(), cpu_times()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        found, result = run(stand, size, parts)
    finally:
        stand.stop()
    about["complaints"] = stands.VM.complaints
    about.update(disturbance(times, cpu_times()))
    about["seconds"] = round(time.monotonic() - start)
    limit, ratios = rows.judge(found)
    o.json.write_text(json.dumps({
        "rows": [row.summary() for row in found if row.samples],
        "limit": limit, "ratios": ratios}, indent=1) + "\n", encoding="utf-8")
    report.write(o.report, about, found, limit, ratios, result)
    print(f"{o.json}\n{o.report}/report.md")
    return 1 if "broken" in result else 0


if __name__ == "__main__":
    sys.exit(main())
