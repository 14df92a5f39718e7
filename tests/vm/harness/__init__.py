# SPDX-License-Identifier: GPL-2.0-or-later
"""Drives QEMU and a test guest: standard library only, bounded waits only."""
from .guest import GuestError, GuestShell, GuestTimeout
from .paths import BUILD, TOP, kernel_files
from .qmp import QMP, QMPError
from .tap import Skip, case, main
from .vm import VM
from .wait import Timeout, wait_for

__all__ = ["BUILD", "GuestError", "GuestShell", "GuestTimeout", "QMP", "QMPError",
           "Skip", "TOP", "Timeout", "VM", "case", "kernel_files", "main", "wait_for"]
