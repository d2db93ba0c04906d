# SPDX-License-Identifier: GPL-2.0-only
"""Quantities in readable units."""


def size(count: int) -> str:
    """Format a number of bytes: ``512 MiB (0x20000000)``."""
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >> shift and not count % (1 << shift):
            return f"{count >> shift} {unit} ({count:#x})"
    return f"{count} bytes ({count:#x})" if count > 9 else f"{count} bytes"
