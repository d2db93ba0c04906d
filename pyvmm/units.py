# SPDX-License-Identifier: GPL-2.0-only
"""Quantities in readable units."""

import re


def size(count: int) -> str:
    """Format a number of bytes: ``512 MiB (0x20000000)``."""
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >> shift and not count % (1 << shift):
            return f"{count >> shift} {unit} ({count:#x})"
    return f"{count} bytes ({count:#x})" if count > 9 else f"{count} bytes"


def parse_size(text: str) -> int:
    """Return a size in MiB or GiB, such as 512M or 2G, in bytes. Raises `ValueError`."""
    match = re.fullmatch(r"0*([1-9]\d{,8})([MG])", text, re.ASCII | re.IGNORECASE)
    if match is None:
        raise ValueError(text)
    return int(match[1]) << {"M": 20, "G": 30}[match[2].upper()]
