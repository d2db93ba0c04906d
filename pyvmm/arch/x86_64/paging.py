# SPDX-License-Identifier: GPL-2.0-only
"""Four-level page tables for long mode, built on the host, with memory types by PAT.

Intel SDM volume 3, sections 4.5 (four-level paging) and 12.12 (the page attribute table).
"""

import struct
from collections.abc import Iterable

from pyvmm.arch.page_tables import MemoryType, PageTables, Window
from pyvmm.arch.radix_tables import PAGE_SHIFT, RadixTables

# IA32_PAT, one byte per type. PWT and PCD alone select the first four entries.
_PAT = {
    MemoryType.WRITE_BACK: 6,
    MemoryType.NON_CACHEABLE: 1,  # WC
    MemoryType.DEVICE: 0,  # UC
}
_INDEX = {memory_type: index for index, memory_type in enumerate(_PAT)}

# Entry bits.
_PRESENT = 1 << 0
_WRITABLE = 1 << 1
_PWT_SHIFT = 3  # PWT; PCD is the next bit
_ACCESSED = 1 << 5
_DIRTY = 1 << 6
_BLOCK = 1 << 7
_NO_EXECUTE = 1 << 63

# A null descriptor, then flat 64-bit code (selector 0x08) and data (0x10) for ring 0.
GDT = struct.pack("<3Q", 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF)
CODE_SELECTOR, DATA_SELECTOR = 0x08, 0x10


def build_page_tables(gpa: int, windows: Iterable[Window]) -> PageTables:
    """Build tables for GPA `gpa` that map `windows`, with a GDT on the page behind them.

    Pages are 4 KiB or 2 MiB; 1 GiB would need a CPU with ``pdpe1gb``. Raises `ValueError` for a
    window that cannot be mapped.
    """
    tables = RadixTables(gpa, leaf=_leaf, branch=_branch, gva_bits=47, largest_shift=21)
    for window in windows:
        tables.map(window)
    image = tables.image
    return PageTables(
        gpa,
        image + GDT.ljust(1 << PAGE_SHIFT, b"\0"),
        {
            "cr3": gpa,
            "pat": sum(byte << 8 * n for n, byte in enumerate(_PAT.values())),
            "gdt.base": gpa + len(image),
            "gdt.limit": len(GDT) - 1,
        },
    )


def _branch(gpa: int) -> int:
    return gpa | _PRESENT | _WRITABLE | _ACCESSED


def _leaf(gpa: int, shift: int, window: Window) -> int:
    entry = gpa | _PRESENT | _ACCESSED | _DIRTY | _INDEX[window.memory_type] << _PWT_SHIFT
    if shift > PAGE_SHIFT:
        entry |= _BLOCK
    if window.writable:
        entry |= _WRITABLE
    if not window.executable:
        entry |= _NO_EXECUTE
    return entry
