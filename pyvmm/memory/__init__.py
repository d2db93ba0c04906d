# SPDX-License-Identifier: GPL-2.0-only
"""Host virtual memory: mappings that own their range, and what the kernel says of any.

mapping      a range that is ours until it is closed
placements   what was put where in it, so that it can be put back
peek         reading memory that may not be there, ours or another process's, without dying of it
vma          the kernel's areas: range, file, flags
procmap      the one area at an address, asked for by ioctl
"""

from pyvmm.memory.mapping import (
    PAGE_SIZE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    Backing,
    Mapping,
    can_hold,
    round_up,
)

__all__ = [
    "PAGE_SIZE",
    "PROT_NONE",
    "PROT_READ",
    "PROT_WRITE",
    "Backing",
    "Mapping",
    "can_hold",
    "round_up",
]
