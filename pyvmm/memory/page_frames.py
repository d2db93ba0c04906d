# SPDX-License-Identifier: GPL-2.0-only
"""The page frames behind a mapping, from ``/proc/PID/pagemap`` and ``/proc/iomem``. Needs root."""

import os
import re
from pathlib import Path

from pyvmm.memory.mapping import PAGE_SIZE

_ENTRY = 8  # bytes of pagemap per page: Documentation/admin-guide/mm/pagemap.rst
_PRESENT = 1 << 63
_PFN = (1 << 55) - 1
_SYSTEM_RAM = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) : System RAM$", re.MULTILINE)


def is_ram(hva: int, pid: int | str = "self") -> bool | None:
    """Return True if the page frame behind `hva` is RAM, as for arm64's pfn_is_map_memory().

    None if that is not known: the page is not present, or the PFN is hidden from this user.
    """
    try:
        pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            entry = int.from_bytes(os.pread(pagemap, _ENTRY, hva // PAGE_SIZE * _ENTRY), "little")
        finally:
            os.close(pagemap)
        ranges = _SYSTEM_RAM.findall(Path("/proc/iomem").read_text())
    except OSError:
        return None
    address = (entry & _PFN) * PAGE_SIZE
    if not entry & _PRESENT or not address:
        return None
    return any(int(start, 16) <= address <= int(end, 16) for start, end in ranges)
