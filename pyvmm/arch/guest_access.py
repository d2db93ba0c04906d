# SPDX-License-Identifier: GPL-2.0-only
"""The access that a stopped vCPU was making, rebuilt from its registers and guest memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from pyvmm.why.facts import AccessKind

Peek: TypeAlias = Callable[[int, int], bytes | None]
"""``peek(gpa, size)``: read `size` bytes of guest memory, or None if they cannot all be read."""


@dataclass(frozen=True, kw_only=True)
class PageAccess:
    """An access to guest physical memory that stays within one 4 KiB page.

    Attributes:
        gpa: GPA of the first byte.
        size: bytes.
        access: the kind of access. Cache maintenance counts as a write, as in ``ESR_EL2.WnR``.
        va: the GVA in the instruction. For a table walk, the GVA that the walk translates.
        memory_type: the type that the guest's stage 1 gives the page, such as ``Normal-WB``;
            None for a table descriptor.
        already_read: True if the bytes were read to rebuild the access, so the host can read
            them.
        unaligned_for_device: why the access is an alignment fault if stage 2 maps the page as
            Device and stage 1 as Normal, or None. It completes a sentence that begins with "the
            access".
        atomic: True for an atomic or an exclusive.
    """

    gpa: int
    size: int
    access: AccessKind
    va: int
    memory_type: str | None = None
    already_read: bool = False
    unaligned_for_device: str | None = None
    atomic: bool = False

    @property
    def is_table(self) -> bool:
        """Return True if a stage-1 walk reads or updates a table descriptor."""
        return self.memory_type is None


@dataclass(frozen=True, kw_only=True)
class RebuiltAccess:
    """Every page access of the instruction at a stopped vCPU's PC.

    Attributes:
        pc: GVA of the instruction, which has not completed; None if it cannot be read.
        instruction: an object that prints as assembly, or None if the fetch failed.
        pages: the page accesses in the order in which the CPU makes them.
        incomplete: why `pages` is incomplete, as one sentence, or None if it is complete.
    """

    pc: int | None
    instruction: object = None
    pages: tuple[PageAccess, ...] = ()
    incomplete: str | None = None


class PhysicalMemory(Protocol):
    """Guest physical memory, including emulated devices.

    `read` and `write` accept 1, 2, 4 or 8 bytes.
    """

    def read(self, gpa: int, size: int) -> bytes | None:
        """Read `size` bytes at `gpa`. Return None if nothing readable is there."""

    def write(self, gpa: int, data: bytes) -> bool:
        """Write `data` at `gpa`. Return False if nothing writable is there."""

    def peek(self, gpa: int, size: int) -> bytes | None:
        """Read any number of bytes of RAM at `gpa`, without touching a device.

        Return None if they cannot all be read.
        """
