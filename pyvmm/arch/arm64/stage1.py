# SPDX-License-Identifier: GPL-2.0-only
"""Stage-1 tables for EL1, made on the host, so that a payload needs no MMU code of its own.

4 KiB granule, one range (TTBR0_EL1) of 25 to 48 bits, 48-bit output addresses; VMSAv8-64 as in
the Arm ARM (DDI 0487), chapter D8.
"""

from collections.abc import Iterable

from pyvmm.arch.page_tables import MemoryType, Translation, Window
from pyvmm.arch.radix_tables import PAGE_SHIFT, Tables

# MAIR_EL1, one byte a type; AttrIndx in a descriptor is the place in this table.
_ATTRIBUTES = {
    MemoryType.DEVICE: 0x04,  # Device-nGnRE
    MemoryType.NON_CACHEABLE: 0x44,  # Normal, inner and outer non-cacheable
    MemoryType.WRITE_BACK: 0xFF,  # Normal, inner and outer write-back, read- and write-allocate
}
_INDEX = {memory_type: index for index, memory_type in enumerate(_ATTRIBUTES)}

# Descriptor bits.
_TABLE_OR_PAGE = 0b11
_BLOCK = 0b01
_READ_ONLY = 1 << 7  # AP[2]; AP[1] stays clear: EL1 only
_INNER_SHAREABLE = 0b11 << 8
_ACCESS_FLAG = 1 << 10  # set beforehand: nobody is there to take an access flag fault
_PXN = 1 << 53
_UXN = 1 << 54

# TCR_EL1: table walks are write-back and inner shareable, 4 KiB granule, no walks of TTBR1_EL1.
_TCR_WALKS = 0b01 << 8 | 0b01 << 10 | 0b11 << 12
_TCR_EPD1 = 1 << 23
_TCR_T1SZ = 16 << 16
_TCR_TG1_4K = 0b10 << 30
_TCR_IPS_48 = 0b101 << 32  # a CPU with fewer bits of physical address takes it for what it has

# SCTLR_EL1: MMU and caches on, and the bits that are RES1 without the features that own them:
# LSMAOE, nTLSMD, SPAN, EIS, TSCXT, EOS.
_SCTLR = 1 << 0 | 1 << 2 | 1 << 12 | 1 << 29 | 1 << 28 | 1 << 23 | 1 << 22 | 1 << 20 | 1 << 11


def translation(
    gpa: int, windows: Iterable[Window], *, gva_bits: int = 48, largest_shift: int = 30
) -> Translation:
    """Tables at `gpa` that map `windows`, and the EL1 registers that switch them on.

    `largest_shift` 12, 21 or 30 limits the blocks to 4 KiB, 2 MiB or 1 GiB.
    Raises `ValueError` for windows that can't be mapped.
    """
    if not 25 <= gva_bits <= 48:
        raise ValueError(f"{gva_bits} bits of virtual address: TCR_EL1.T0SZ takes 25 to 48")
    tables = Tables(gpa, leaf=_leaf, branch=_branch, gva_bits=gva_bits, largest_shift=largest_shift)
    for window in windows:
        tables.map(window)
    size = 64 - gva_bits
    return Translation(
        gpa,
        tables.image,
        {
            "TTBR0_EL1": gpa,
            "TCR_EL1": size | _TCR_WALKS | _TCR_T1SZ | _TCR_EPD1 | _TCR_TG1_4K | _TCR_IPS_48,
            "MAIR_EL1": sum(byte << 8 * n for n, byte in enumerate(_ATTRIBUTES.values())),
            "SCTLR_EL1": _SCTLR,
        },
    )


def _branch(gpa: int) -> int:
    return gpa | _TABLE_OR_PAGE


def _leaf(gpa: int, shift: int, window: Window) -> int:
    entry = gpa | (_TABLE_OR_PAGE if shift == PAGE_SHIFT else _BLOCK)
    entry |= _INDEX[window.memory_type] << 2 | _INNER_SHAREABLE | _ACCESS_FLAG | _UXN
    if not window.writable:
        entry |= _READ_ONLY
    if not window.executable:
        entry |= _PXN
    return entry
