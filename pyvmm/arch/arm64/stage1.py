# SPDX-License-Identifier: GPL-2.0-only
"""Stage-1 page tables for EL1, built on the host, so that a payload needs no MMU code.

4 KiB granule, one range (TTBR0_EL1) of 48 bits, 48-bit output addresses. VMSAv8-64: Arm ARM (DDI
0487), chapter D8.
"""

from collections.abc import Iterable

from pyvmm.arch.page_tables import MemoryType, PageTables, Window
from pyvmm.arch.radix_tables import PAGE_SHIFT, RadixTables
from pyvmm.memory_types import DEVICE_NGNRE, MAIR_ATTRIBUTES, NORMAL_NC, NORMAL_WB

# AttrIndx in a descriptor and the byte's position in MAIR_EL1 are the position in this tuple.
_TYPES = (
    (MemoryType.DEVICE, DEVICE_NGNRE),
    (MemoryType.NON_CACHEABLE, NORMAL_NC),
    (MemoryType.WRITE_BACK, NORMAL_WB),
)
_INDEX = {memory_type: index for index, (memory_type, _) in enumerate(_TYPES)}
_MAIR = sum(MAIR_ATTRIBUTES[name] << 8 * index for index, (_, name) in enumerate(_TYPES))

# Descriptor bits.
_TABLE_OR_PAGE = 0b11
_BLOCK = 0b01
_READ_ONLY = 1 << 7  # AP[2]; AP[1] stays clear: EL1 only
_INNER_SHAREABLE = 0b11 << 8
_ACCESS_FLAG = 1 << 10  # set in advance: payloads do not handle access flag faults
_PXN = 1 << 53
_UXN = 1 << 54

# TCR_EL1: table walks are write-back and inner shareable, 4 KiB granule, no walks of TTBR1_EL1.
_GVA_BITS = 48
_TCR_T0SZ = 64 - _GVA_BITS
_TCR_WALKS = 0b01 << 8 | 0b01 << 10 | 0b11 << 12
_TCR_EPD1 = 1 << 23
_TCR_T1SZ = 16 << 16
_TCR_TG1_4K = 0b10 << 30
_TCR_IPS_48 = 0b101 << 32  # a CPU with fewer physical address bits treats it as its maximum
_TCR = _TCR_T0SZ | _TCR_WALKS | _TCR_T1SZ | _TCR_EPD1 | _TCR_TG1_4K | _TCR_IPS_48

# SCTLR_EL1: MMU and caches on, and the bits that are RES1 without their features: LSMAOE, nTLSMD,
# SPAN, EIS, TSCXT, EOS.
_SCTLR = 1 << 0 | 1 << 2 | 1 << 12 | 1 << 29 | 1 << 28 | 1 << 23 | 1 << 22 | 1 << 20 | 1 << 11


def build_page_tables(gpa: int, windows: Iterable[Window]) -> PageTables:
    """Build tables for GPA `gpa` that map `windows`, with the EL1 registers that enable them.

    Blocks are up to 1 GiB. Raises `ValueError` for a window that cannot be mapped.
    """
    tables = RadixTables(gpa, leaf=_leaf, branch=_branch, gva_bits=_GVA_BITS, largest_shift=30)
    for window in windows:
        tables.map(window)
    return PageTables(
        gpa,
        tables.image,
        {
            "TTBR0_EL1": gpa,
            "TCR_EL1": _TCR,
            "MAIR_EL1": _MAIR,
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
