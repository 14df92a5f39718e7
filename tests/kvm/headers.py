#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""rvmrpc_host.ko, its clients and the guest driver build for Debian's kernels from the oldest to the newest, without a
warning.

Warnings are the builders' to find; here each symbol must be one that the kernel exports, and none of KVM's.
"""
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from harness import BUILD, Skip, case, comment, main  # noqa: E402
from harness.paths import TOP  # noqa: E402

# Of a case's 300.
FETCH_SECONDS = 200
OURS = ("rvmrpc_host", "rvmrpc_proc", "rvmrpc_echo_client", "rvmrpc_test_client", "rvmrpc_bench")


def run(*command):
    """What it prints; its errors are the case's."""
    result = subprocess.run(command, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


def exports(path):
    """{symbol: module} of a Module.symvers."""
    return {line.split("\t")[1]: line.split("\t")[2] for line in path.read_text(encoding="ascii").splitlines()}


def need_headers(series):
    """Of another Debian than this machine's."""
    if series[0].isdigit():
        return
    try:
        run("timeout", "-k", "5", str(FETCH_SECONDS), "scripts/fetch-headers", series)
    except AssertionError as error:
        # An archive that cannot be reached, or does not answer, is no fault of the module's.
        raise Skip(f"no headers: {str(error)[-200:]}") from None


def check_symbols(module, known, own=()):
    """What a module needs is there, and none of it KVM's."""
    needed = {line.split()[-1] for line in run("nm", "-u", str(module)).splitlines() if line.split()}
    missing = needed - set(known) - set(own) - {"__this_module"}
    assert not missing, (module.name, missing)
    assert not [symbol for symbol in needed if known.get(symbol, "").endswith("/kvm")], module.name


def check_dkms(conf, release):
    """DKMS is told that the module is for that kernel, and for none that nobody tried."""
    text = (TOP / conf).read_text(encoding="ascii")
    kernels = re.search(r'^BUILD_EXCLUSIVE_KERNEL="(.*)"$', text, re.M).group(1)
    assert re.search(kernels, release), release
    for other in ("5.9.0-5-amd64", "5.1.0", "4.19.0-27-amd64", "7.40.0", "8.0.0"):
        assert not re.search(kernels, other), other
    comment(release)


@case("5.10, of Debian 11", timeout=300, series="bullseye")
@case("6.1, of Debian 12", timeout=300, series="6.1")
@case("6.12, of Debian 12's backports", timeout=300, series="6.12")
@case("the newest, of sid", timeout=300, series="sid")
def builds(series):
    """And needs nothing that is not there."""
    need_headers(series)
    run("scripts/build-host", series)
    out = BUILD / "host" / series
    kdir = pathlib.Path((out / "kdir").read_text(encoding="ascii").strip())
    known = exports(kdir / "Module.symvers")
    own = exports(out / "Module.symvers")
    for name in OURS:
        check_symbols(out / f"{name}.ko", known, own)
    check_dkms("linux-kvm/host/dkms.conf", kdir.name.removeprefix("linux-headers-"))


@case("the guest driver: 5.10, of Debian 11", timeout=300, series="bullseye")
@case("the guest driver: the newest, of sid", timeout=300, series="sid")
def guest_builds(series):
    """The series of this Debian are the guests' own build."""
    need_headers(series)
    run("scripts/build-modules", series)
    out = BUILD / "modules" / series
    release = (out / "release").read_text(encoding="ascii").strip()
    kdir = (BUILD / "headers" / series / "kdir").read_text(encoding="ascii").strip()
    check_symbols(out / "rvmrpc.ko", exports(pathlib.Path(kdir) / "Module.symvers"))
    check_dkms("guest-drivers/linux/dkms.conf", release)


if __name__ == "__main__":
    main(guests=False)
