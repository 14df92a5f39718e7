#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Our KVM modules fit where Debian's were: the same symbols with the same CRCs.

A CRC covers the types that a symbol's users and its owner share, so other
modules of Debian's (kvmgt) go on with ours, and ours with Debian's kernel.
"""
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from harness import BUILD, case, main  # noqa: E402

OURS = BUILD / "kvm"
MODULES = ("kvm", "kvm-amd", "kvm-intel")
RELEASE = (OURS / "release").read_text(encoding="ascii").strip()
HEADERS = pathlib.Path("/usr/src") / f"linux-headers-{RELEASE}"
STOCK = BUILD / "kernels" / "6.12" / "modules" / "kernel" / "arch" / "x86" / "kvm"
OUR_NAMES = re.compile(r"^(vmrpc|vmlp|rvmrpc)_")


def exports(symvers):
    """{symbol: (CRC, module's name, kind of export)} of a Module.symvers."""
    found = {}
    for line in symvers.read_text(encoding="ascii").splitlines():
        crc, symbol, module, kind = line.split("\t")[:4]
        found[symbol] = (int(crc, 16), pathlib.Path(module).name, kind)
    return found


def imports(module):
    """{symbol: CRC} of what a module needs."""
    lines = subprocess.run(["/sbin/modprobe", "--dump-modversions", module], check=True,
                           stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return {symbol: int(crc, 16) for crc, symbol in (line.split("\t") for line in lines)}


def vermagic(module):
    """What the kernel compares before it looks at symbols."""
    return subprocess.run(["/sbin/modinfo", "-F", "vermagic", module], check=True,
                          stdout=subprocess.PIPE, text=True).stdout.strip()


@case("what Debian's modules export, ours do, with the same CRC and licence")
def same_exports():
    """For each of the three."""
    ours = exports(OURS / "Module.symvers")
    stock = {symbol: entry for symbol, entry in exports(HEADERS / "Module.symvers").items()
             if entry[1] in MODULES}
    assert len(stock) > 300, len(stock)
    wrong = {symbol: (entry, ours.get(symbol)) for symbol, entry in stock.items()
             if ours.get(symbol) != entry}
    assert not wrong, wrong


@case("what is exported besides is ours by name, and GPL only")
def new_exports():
    """So no name of upstream's future is taken."""
    stock = exports(HEADERS / "Module.symvers")
    new = {symbol: entry for symbol, entry in exports(OURS / "Module.symvers").items()
           if symbol not in stock}
    wrong = {symbol: entry for symbol, entry in new.items()
             if not OUR_NAMES.match(symbol) or entry[2] != "EXPORT_SYMBOL_GPL"}
    assert not wrong, wrong


@case("kvm.ko resolves", module="kvm")
@case("kvm-amd.ko resolves", module="kvm-amd")
@case("kvm-intel.ko resolves", module="kvm-intel")
def resolves(module):
    """Each symbol is the kernel's or kvm.ko's, by its CRC."""
    known = {**exports(HEADERS / "Module.symvers"), **exports(OURS / "Module.symvers")}
    needed = imports(OURS / f"{module}.ko")
    assert len(needed) > 100, len(needed)
    wrong = {symbol: crc for symbol, crc in needed.items()
             if known.get(symbol, (None,))[0] != crc}
    assert not wrong, wrong
    undefined = {line.split()[-1] for line in subprocess.run(
        ["nm", "-u", OURS / f"{module}.ko"], check=True, stdout=subprocess.PIPE,
        text=True).stdout.splitlines()}
    assert undefined <= set(needed), undefined - set(needed)


@case("the modules say that they are for Debian's kernel")
def magic():
    """As Debian's own do."""
    for module in MODULES:
        assert vermagic(OURS / f"{module}.ko") == vermagic(STOCK / f"{module}.ko.xz"), module


if __name__ == "__main__":
    main(guests=False)
