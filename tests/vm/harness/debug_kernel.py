# SPDX-License-Identifier: GPL-2.0-or-later
"""What differs when hosts and guests run one of scripts/build-debug-kernel's Linuxes."""
import contextlib
import re

from .wait import DEBUG_KERNEL, Timeout

# An interrupt that comes while the kernel looks at its first CPU, and forgets for a moment what that can, is a wild access to
# KASAN where page tables have five levels.
BOOT = "no5lvl" if DEBUG_KERNEL else ""

# An object counts when it was lost at two scans, and is older than five seconds.
# A debug kernel whose kmemleak is not there, or is off, has not looked: that is no "none". Debian's kernels have none.
SCAN = ("f=/sys/kernel/debug/kmemleak; case $(uname -r) in *debug*) if echo scan > $f; then sleep 6; echo scan > $f; "
        "head -c 20000 $f; else echo 'unreferenced object: unknown, kmemleak is off'; fi; esac")

# Debian's Linux has races and unwritten memory of its own.
REPORT = re.compile(r"BUG: (?:KCSAN|KMSAN): .*?\n[^\n]*={60}", re.DOTALL)


def without_others(text):
    """A console without the reports of KCSAN and KMSAN in which no module of ours has a part."""
    return REPORT.sub(lambda report: report.group() if "[rvmrpc" in report.group() else "", text)


def more_memory(size):
    """Of "256M" what KASAN and its like leave as much of."""
    match = re.fullmatch(r"(\d+)([MG])", str(size))
    if not DEBUG_KERNEL or not match:
        return size
    mega = int(match.group(1)) * (1024 if match.group(2) == "G" else 1)
    return f"{mega * 3 // 2 + 384}M"


def leaks(shell):
    """What kmemleak has found in a guest that still answers; one that is hung or gone is not asked."""
    if not DEBUG_KERNEL or shell is None:
        return []
    with contextlib.suppress(OSError, Timeout):
        shell.sync(10)
        found = shell.run(SCAN, 60)[1]
        return ["kmemleak: " + " | ".join(part.split("\n")[:12]) for part in found.split("unreferenced object")[1:]]
    return []
