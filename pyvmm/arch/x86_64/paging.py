# SPDX-License-Identifier: GPL-2.0-only
"""Four-level page tables for long mode, made on the host, with memory types by PAT.

Intel SDM volume 3, chapters 4.5 (four-level paging) and 12.12 (the page attribute table).
"""

import struct
from collections.abc import Iterable

from pyvmm.arch.page_tables import MemoryType, Translation, Window
from pyvmm.arch.radix_tables import PAGE_SHIFT, Tables

# IA32_PAT, one byte a type; the first four entries are chosen by the bits PWT and PCD alone.
_PAT = {
    MemoryType.WRITE_BACK: 6,
    MemoryType.NON_CACHEABLE: 1,  # WC
    MemoryType.DEVICE: 0,  # UC
}
_INDEX = {memory_type: index for index, memory_type in enumerate(_PAT)}

# Entry bits.
_PRESENT = 1 << 0
_WRITABLE = 1 << 1
_PWT_SHIFT = 3  # PWT, and PCD above it
_ACCESSED = 1 << 5
_DIRTY = 1 << 6
_BLOCK = 1 << 7
_NO_EXECUTE = 1 << 63

# A null descriptor, then flat 64-bit code (selector 0x08) and data (0x10) for ring 0.
GDT = struct.pack("<3Q", 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF)
CODE_SELECTOR, DATA_SELECTOR = 0x08, 0x10


def translation(gpa: int, windows: Iterable[Window], *, largest_shift: int = 21) -> Translation:
    """Tables at `gpa` that map `windows`, with a GDT behind them, and the registers for both.

    `largest_shift` 12, 21 or 30 limits the blocks to 4 KiB, 2 MiB or 1 GiB; the last only where
    the CPU has ``pdpe1gb``. Raises `ValueError` for windows that can't be mapped.
    """
    tables = Tables(gpa, leaf=_leaf, branch=_branch, gva_bits=47, largest_shift=largest_shift)
    for window in windows:
        tables.map(window)
    image = tables.image
    return Translation(
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
