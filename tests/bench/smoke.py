#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark runs, and its JSON and report have what they must."""
import json
import pathlib
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[2]
ROW_KEYS = {"name", "n", "min_us", "p50_us", "p99_us", "mean_us", "exits", "irqs", "wakes"}
# Ratios that a run under TCG has, where no client is in the kernel; it may have the vsock server's.
RATIOS = {"burst_S", "burst_events", "inplace_4KiB", "inplace_64KiB", "inplace_1024KiB", "stock_meminfo_vs_qga",
          "meminfo_vs_ssh_new", "meminfo_vs_qga_read", "qmp_vs_empty", "qmp_vs_qga_read"}
# Of these there must be a row under TCG.
PEERS = ("E:", "F:", "socket: null, VMLP", "socket: meminfo, adaptive", "window: S", "window: null",
         "window: answer in place", "rvmrpcd: null", "rvmrpcd: meminfo", "rvmrpcd's guest: QGA", "QMP: empty",
         "QMP: guest-meminfo", "QGA: guest-ping", "QGA: open", "QGA: guest-exec",
         "virtio-balloon: read", "SSH: new", "SSH: kept")


def check_json(data):
    """Problems with the numbers."""
    problems = [f"row {row['name']}: keys {sorted(row)}" for row in data["rows"]
                if set(row) != ROW_KEYS]
    problems += [f"row {row['name']}: not ordered" for row in data["rows"] if not
                 0 < row["min_us"] <= row["p50_us"] <= row["p99_us"] or row["n"] < 1]
    problems += [f"no row {peer}" for peer in PEERS
                 if not any(row["name"].startswith(peer) for row in data["rows"])]
    there = {name for name, value in data["ratios"].items() if value is not None} - {"meminfo_vs_vsock"}
    if set(data["limit"]) != {"E_us", "F_us"} or there != RATIOS:
        problems.append(f"limit {data['limit']}, ratios {data['ratios']}")
    return problems


def main():
    """One quick run, two cases."""
    print("1..2")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        result = subprocess.run(
            [TOP / "scripts" / "bench", "--accel", "tcg", "--quick",
             "--json", folder / "bench.json", "--report", folder], check=False)
        ran = result.returncode == 0
        print(f"{'ok' if ran else 'not ok'} 1 - a quick run under TCG ends well")
        problems = check_json(json.loads((folder / "bench.json").read_text())) if ran else ["no run"]
        text = (folder / "report.md").read_text() if ran else ""
        problems += [f"the report lacks {words}" for words in
                     ("Emulated CPU", "## Payload", "## Clients", "## Who answers",
                      "## The cost of waiting: an idle guest",
                      "## The cost of waiting: a job", "latency.svg") if words not in text]
    print(f"{'not ok' if problems else 'ok'} 2 - the JSON and the report are complete")
    for problem in problems:
        print(f"# {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
