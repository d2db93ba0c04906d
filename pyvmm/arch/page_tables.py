# SPDX-License-Identifier: GPL-2.0-only
"""The contents of a guest's own page tables, in terms that both architectures share."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class MemoryType(Enum):
    """A memory type for guest page tables. `Architecture.MEMORY_TYPES` has the native names."""

    DEVICE = "device"  # arm64 Device-nGnRE, x86 UC
    NON_CACHEABLE = "non-cacheable"  # arm64 Normal-NC, x86 WC
    WRITE_BACK = "write-back"  # arm64 Normal-WB, x86 WB


@dataclass(frozen=True)
class Window:
    """A mapping in guest page tables: `size` bytes at `gva` that lead to `gpa`.

    Attributes:
        gva, gpa, size: in bytes, multiples of 4 KiB.
        memory_type: the memory type of the mapping.
        writable, executable: permissions besides read.
    """

    gva: int
    gpa: int
    size: int
    memory_type: MemoryType = MemoryType.WRITE_BACK
    writable: bool = True
    executable: bool = False


def identity(
    gpa: int,
    size: int,
    memory_type: MemoryType = MemoryType.WRITE_BACK,
    *,
    writable: bool = True,
    executable: bool = False,
) -> Window:
    """Return an identity-mapped window: its GVA is its GPA."""
    return Window(gpa, gpa, size, memory_type, writable, executable)


@dataclass(frozen=True)
class PageTables:
    """Page tables to write into guest memory, and the registers that enable them.

    Attributes:
        gpa: the GPA to write `image` to.
        image: the tables, in whole pages of 4 KiB.
        registers: the vCPU registers to set, by name.
    """

    gpa: int
    image: bytes
    registers: Mapping[str, int]
