#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""rvmrpc_host.ko and its clients, and the guests' driver, build for Debian's kernels from the oldest to the newest, without
a warning.

Warnings are build-host's to find; here each symbol must be one that the kernel exports, and none of KVM's.
"""
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from harness import BUILD, Skip, case, comment, main  # noqa: E402
from harness.paths import TOP  # noqa: E402

OURS = ("rvmrpc_host", "rvmrpc_proc", "rvmrpc_echo_client", "rvmrpc_test_client", "rvmrpc_bench")


def run(*command):
    """What it prints; its errors are the case's."""
    result = subprocess.run(command, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


def exports(path):
    """{symbol: module} of a Module.symvers."""
    return {line.split("\t")[1]: line.split("\t")[2] for line in path.read_text(encoding="ascii").splitlines()}


@case("5.10, of Debian 11", timeout=300, series="bullseye")
@case("6.1, of Debian 12", timeout=300, series="6.1")
@case("6.12, of Debian 12's backports", timeout=300, series="6.12")
@case("the newest, of sid", timeout=300, series="sid")
def builds(series):
    """And needs nothing that is not there."""
    if not series[0].isdigit():
        try:
            run("scripts/fetch-headers", series)
        except AssertionError as error:
            # An archive that cannot be reached is no fault of the module's.
            raise Skip(f"no headers: {str(error)[-200:]}") from None
    run("scripts/build-host", series)
    out = BUILD / "host" / series
    kdir = pathlib.Path((out / "kdir").read_text(encoding="ascii").strip())
    known = exports(kdir / "Module.symvers")
    own = exports(out / "Module.symvers")
    for name in OURS:
        needed = {line.split()[-1] for line in run("nm", "-u", str(out / f"{name}.ko")).splitlines() if line.split()}
        missing = needed - set(known) - set(own) - {"__this_module"}
        assert not missing, (name, missing)
        assert not [symbol for symbol in needed if known.get(symbol, "").endswith("/kvm")], name
    comment(kdir.name)


@case("the guests' driver, the newest kernel, of sid", timeout=300)
def guest_driver():
    """build-modules finds its warnings."""
    try:
        run("scripts/fetch-headers", "sid")
    except AssertionError as error:
        raise Skip(f"no headers: {str(error)[-200:]}") from None
    run("scripts/build-modules", "sid")
    assert (BUILD / "modules" / "sid" / "rvmrpc.ko").exists()


if __name__ == "__main__":
    main(guests=False)
