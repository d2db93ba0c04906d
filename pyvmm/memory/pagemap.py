# SPDX-License-Identifier: GPL-2.0-only
"""The state of a process's page, from ``/proc/PID/pagemap``.

fs/proc/task_mmu.c, pte_to_pagemap_entry: a VM_PFNMAP page reads as 0, as does one never accessed.
"""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pyvmm.memory.mapping import PAGE_SIZE

_ENTRY = 8  # bytes
_CHUNK = 1 << 14  # entries
_SWAP_TYPE = (1 << 5) - 1
_SWAP_OFFSET = (1 << 50) - 1  # bits 54:5
# The largest swap type is SWP_PTE_MARKER (include/linux/swap.h), and its offset is a set of
# PTE_MARKER_* (include/linux/leafops.h, before that swapops.h).
_PTE_MARKER = _SWAP_TYPE
_PTE_MARKER_POISONED = 1 << 1
_PTE_MARKER_GUARD = 1 << 2


@dataclass(frozen=True)
class PageState:
    """An entry of pagemap."""

    entry: int

    def _bit(self, number: int) -> bool:
        return bool(self.entry >> number & 1)

    @property
    def present(self) -> bool:
        """Return True if a PTE maps the page."""
        return self._bit(63)

    @property
    def swapped(self) -> bool:
        """Return True if the PTE is not empty and not present: swap, migration, poison, marker."""
        return self._bit(62)

    @property
    def guard(self) -> bool:
        """Return True for a guard region. Before Linux 6.15, only CAP_SYS_ADMIN sees it."""
        return self._bit(58) or self._marker(_PTE_MARKER_GUARD)

    @property
    def uffd(self) -> bool:
        """Return True if userfaultfd write-protects the page (since 7.3, or read-protects it)."""
        return self._bit(57)

    @property
    def poison_marker(self) -> bool | None:
        """Return True for the PTE marker of UFFDIO_POISON and of a failed swap-in.

        Return None if the kernel hides it: only CAP_SYS_ADMIN sees the swap type and offset.
        """
        if not self.swapped or self.guard or self.uffd:
            return False
        if not self.entry & (1 << 55) - 1:
            return None
        return self._marker(_PTE_MARKER_POISONED)

    def _marker(self, flag: int) -> bool:
        offset = self.entry >> 5 & _SWAP_OFFSET
        return self.swapped and self.entry & _SWAP_TYPE == _PTE_MARKER and bool(offset & flag)


def first_page(
    hva: int, size: int, test: Callable[[PageState], bool], pid: int | str = "self"
) -> Iterator[int]:
    """Yield the HVA of the first page in a range that fulfils `test`, if any. Raises `OSError`."""
    pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for start in range(hva, hva + size, _CHUNK * PAGE_SIZE):
            count = min(_CHUNK, (hva + size - start) // PAGE_SIZE)
            entries = os.pread(pagemap, count * _ENTRY, start // PAGE_SIZE * _ENTRY)
            for n, (entry,) in enumerate(struct.iter_unpack("<Q", entries)):
                if test(PageState(entry)):
                    yield start + n * PAGE_SIZE
                    return
    finally:
        os.close(pagemap)


def page_state(hva: int, pid: int | str = "self") -> PageState:
    """Return the state of the page at `hva` in process `pid`. Raises `OSError`."""
    pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        entry = os.pread(pagemap, _ENTRY, hva // PAGE_SIZE * _ENTRY)
    finally:
        os.close(pagemap)
    return PageState(int.from_bytes(entry, "little"))
