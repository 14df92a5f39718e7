#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""soak HOURS: random calls by many clients, random faults, and an account of each call on both sides.

Stops at the first call that cannot be accounted for, and keeps the ledgers, logs and cores. The same seed makes the
same plan of calls and faults; when they happen depends on the machine.
"""
import argparse
import resource
import shutil
import sys
import tempfile
import threading
import time
import traceback

from tiers import TIERS, VM, write_summary

PROGRESS_S = 10
BETWEEN_S = (1.0, 8.0)      # faults
SECONDS = 3600


class Run(threading.Thread):
    """One tier's soak."""

    def __init__(self, tier, end, stopping):
        super().__init__(daemon=True)
        self.tier, self.end, self.stopping = tier, end, stopping
        self.error = None
        self.doing = "boots"

    def run(self):
        """Until the time is over, or something is wrong here or with another tier."""
        try:
            self.tier.start()
            while time.monotonic() < self.end and not self.stopping.is_set():
                self._pause(self.tier.random.uniform(*BETWEEN_S))
                self.doing = self.tier.choose()
                self.tier.fault(self.doing)
            self.doing = "ends"
            self.tier.finish()
        except Exception:  # pylint: disable=broad-except
            self.error = f"{self.tier.name}, {self.doing}: {traceback.format_exc()}"
            self.stopping.set()
            self.tier.stop_hard()

    def _pause(self, seconds):
        self.doing = "calls"
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.stopping.is_set():
            time.sleep(min(1, max(0, until - time.monotonic())))
            self.tier.check()


def progress(start, runs):
    """A line."""
    parts = []
    for run in runs:
        count = run.tier.ledger.count
        parts.append(f"{run.tier.name} ({run.doing}): {count['ended']} calls, {count['ok']} ok, "
                     f"{sum(run.tier.faults.values())} faults, worst {run.tier.ledger.worst / 1e6:.0f} ms")
    print(f"[{time.monotonic() - start:6.0f} s] {'; '.join(parts)}", flush=True)


def parse_args():
    """The command line."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("hours", type=float, help="how long; 0.05 is 3 minutes")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the plan (default: the time)")
    parser.add_argument("--tier", action="append", choices=sorted(TIERS),
                        help="only this one; may be repeated (default: tcg, stock)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, - is standard output")
    parser.add_argument("--keep", metavar="DIR",
                        help="files go there, and stay (default: kept after a discrepancy only)")
    args = parser.parse_args()
    if not 0 < args.hours <= 1000:
        parser.error(f"{args.hours} hours: more than 0, at most 1000")
    return args


def main():
    """Runs the tiers at once."""
    args = parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    folder = args.keep or tempfile.mkdtemp(prefix="rvmrpc-soak-")
    print(f"seed {args.seed}, files in {folder}", flush=True)
    stopping = threading.Event()
    start = time.monotonic()
    end = start + args.hours * SECONDS
    runs = [Run(TIERS[name](folder, args.seed), end, stopping) for name in args.tier or ("tcg", "stock")]
    for run in runs:
        run.start()
    said = start
    try:
        while any(run.is_alive() for run in runs):
            time.sleep(1)
            if time.monotonic() - said >= PROGRESS_S:
                said = time.monotonic()
                progress(start, runs)
    except KeyboardInterrupt:
        stopping.set()
        for run in runs:
            run.join()
    # After an error a migration's other end may be left.
    for vm in list(VM.live):
        vm.stop()
    errors = [run.error for run in runs if run.error]
    summary = {"seed": args.seed, "seconds": round(time.monotonic() - start), "errors": errors,
               "tiers": {run.tier.name: run.tier.summary() for run in runs}}
    if args.json:
        write_summary(args.json, summary)
    for error in errors:
        print(f"DISCREPANCY: {error}")
    accounted = sum(run.tier.ledger.count["ended"] for run in runs)
    faults = sum(sum(run.tier.faults.values()) for run in runs)
    print(f"{accounted} calls accounted for, {faults} faults, {summary['seconds']} s, seed {args.seed}: "
          f"{'FAILED, evidence in ' + str(folder) if errors else 'lost 0, doubled 0, late 0'}")
    if not errors and not args.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
