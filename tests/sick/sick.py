#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that are sick in earnest: one boot for all that can be undone, and one under Debian's QEMU."""
from ward import main
# Their cases, in this order: who was stormed is well enough to be frozen.
import doctor  # pylint: disable=unused-import
import freeze  # pylint: disable=unused-import

if __name__ == "__main__":
    main()
