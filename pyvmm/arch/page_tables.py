# SPDX-License-Identifier: GPL-2.0-only
"""What a guest's own page tables shall say, in words that both architectures share."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class MemoryType(Enum):
    """How a guest asks for memory; `Architecture.memory_types` has each one's proper name."""

    DEVICE = "device"  # arm64 Device-nGnRE, x86 UC
    NON_CACHEABLE = "non-cacheable"  # arm64 Normal-NC, x86 WC
    WRITE_BACK = "write-back"  # arm64 Normal-WB, x86 WB


@dataclass(frozen=True)
class Window:
    """A range of guest virtual addresses and the guest physical memory that it leads to.

    Attributes:
        gva, gpa, size: in bytes, each a multiple of 4 KiB.
        memory_type: what the guest asks for.
        writable, executable: what the guest may do besides reading.
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
    """A window at the address of what it leads to."""
    return Window(gpa, gpa, size, memory_type, writable, executable)


@dataclass(frozen=True)
class Translation:
    """Page tables, ready to be put into guest memory and switched on.

    Attributes:
        gpa: where `image` has to lie.
        image: the tables, whole pages of 4 KiB.
        registers: what the vCPU's registers, by name, have to say.
    """

    gpa: int
    image: bytes
    registers: Mapping[str, int]
