#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""run.py [--full] FILE [PROOF...]: has CBMC prove what a file of this folder claims, a TAP case per proof.

The line before a proof gives the checker's bounds: "PROOF unwind N [-DX=N...][, LOOP:N,...]", and after "full" those of
suite proofs-full; without bounds before "full" a proof is for that suite only. A bound that is too low is a failure, and
so is a proof whose assumptions leave nothing to be proved: its last claim, "reached", has to fail.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
PROOF = re.compile(r"/\* PROOF (.*?) ?(?:full (.*?))? ?\*/\nvoid (prove_\w+)\(void\)")
# Of the clock: the longest takes 66 s, beside another test.
LIMIT = {False: 900, True: 1200}
CBMC = pathlib.Path(os.environ.get("RVMRPC_BUILD", TOP / "build"), "cbmc", "cbmc")
CHECKS = ("--unwinding-assertions", "--pointer-overflow-check", "--slice-formula", "--drop-unused-functions")


def options(bounds):
    """The checker's options of a PROOF line's half."""
    words, _, loops = bounds.partition(",")
    words = words.split()
    unwind = words.index("unwind")
    defines = words[:unwind] + words[unwind + 2:]
    return ["--unwind", words[unwind + 1], *defines, *(["--unwindset", loops.strip()] if loops else [])]


def prove(source, name, bounds, full):
    """None and the count of properties that were proved, or what went wrong and 0."""
    command = [CBMC, "--json-ui", "--function", name, *options(bounds), *CHECKS,
               *(f"-I{TOP / folder}" for folder in ("tests/proofs/os", "core", "include", "tests/proofs")), source]
    try:
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                                timeout=LIMIT[full])
    except subprocess.TimeoutExpired:
        return f"no answer in {LIMIT[full]} s", 0
    try:
        messages = json.loads(result.stdout)
    except ValueError:
        return result.stdout[-2000:], 0
    results = [p for m in messages for p in m.get("result", ())]
    failed = [p for p in results if p["status"] != "SUCCESS"]
    if not results:
        return "\n".join(m.get("messageText", "") for m in messages if m.get("messageType") == "ERROR"), 0
    if not any(p["description"] == "reached" for p in failed):
        return "its assumptions leave nothing to be proved", 0
    wrong = [f"{p['property']}: {p['description']}" for p in failed if p["description"] != "reached"]
    return "\n".join(wrong) or None, len(results) - len(failed)


def main():
    """Prints the cases."""
    full = "--full" in sys.argv
    source, *names = [a for a in sys.argv[1:] if a != "--full"]
    source = HERE / source
    found = PROOF.findall(source.read_text(encoding="utf-8"))
    cases = [(name, long if full else short) for short, long, name in found
             if (long if full else short) and (not names or name in names)]
    print(f"1..{len(cases)}", flush=True)
    bad = 0
    for number, (name, bounds) in enumerate(cases, 1):
        start = time.monotonic()
        wrong, proved = prove(source, name, bounds, full)
        bad += bool(wrong)
        print(f"{'not ok' if wrong else 'ok'} {number} {name}: {proved} properties, {time.monotonic() - start:.1f} s")
        if wrong:
            print("\n".join(f"# {line}" for line in wrong.splitlines()[:30]))
        sys.stdout.flush()
    return 1 if bad or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
