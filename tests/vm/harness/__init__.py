# SPDX-License-Identifier: GPL-2.0-or-later
"""Drives QEMU and a test guest: standard library only, bounded waits only."""
from .guest import GuestError, GuestShell, GuestTimeout
from .late import Late
from .paths import BUILD, TOP, kernel_files
from .qmp import QMP, QMPError
from . import records
from .rpc import (balloon_window, call, call_args, counters, driver_file, insmod, ms, server_cpus,
                  set_parameter, stats, wait_connected)
from .tap import Skip, case, comment, main, shared
from .vm import VM
from .wait import DEBUG_KERNEL, Timeout, least_seconds, wait_for

__all__ = ["BUILD", "DEBUG_KERNEL", "GuestError", "GuestShell", "GuestTimeout", "Late", "QMP",
           "QMPError", "Skip", "TOP", "Timeout", "VM", "balloon_window", "call", "call_args", "case", "comment", "counters",
           "driver_file", "insmod", "kernel_files", "least_seconds", "main", "ms", "server_cpus", "set_parameter",
           "shared", "stats", "wait_connected", "wait_for"]
