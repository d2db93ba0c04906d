# SPDX-License-Identifier: GPL-2.0-only
"""Radix page tables of 512 eight-byte entries: arm64 with a 4 KiB granule, and x86-64."""

from array import array
from collections.abc import Callable
from typing import TypeAlias

from pyvmm.arch.page_tables import Window

PAGE_SHIFT = 12
PAGE = 1 << PAGE_SHIFT
_INDEX_BITS = 9

LeafEncoder: TypeAlias = Callable[[int, int, Window], int]
"""``leaf(gpa, shift, window)``: encode the entry for a page or block of ``1 << shift`` bytes."""

BranchEncoder: TypeAlias = Callable[[int], int]
"""``branch(gpa)``: encode the entry that points to the next table, at `gpa`."""


class RadixTables:
    """Page tables that grow as windows are mapped. The root is the first page of `image`."""

    def __init__(
        self,
        gpa: int,
        *,
        leaf: LeafEncoder,
        branch: BranchEncoder,
        gva_bits: int,
        largest_shift: int,
    ) -> None:
        """Start with an empty root.

        Args:
            gpa: the GPA of the tables, a multiple of 4 KiB.
            leaf: encodes an entry that maps a page or block.
            branch: encodes an entry that points to a table.
            gva_bits: the width of a guest virtual address.
            largest_shift: log2 of the largest block: 12, 21 or 30.

        Raises `ValueError` if `gpa` is not aligned.
        """
        if gpa % PAGE:
            raise ValueError(f"page tables at GPA {gpa:#x} are not on a 4 KiB boundary")
        self._gpa = gpa
        self._leaf = leaf
        self._branch = branch
        self._gva_bits = gva_bits
        levels_below_root = (gva_bits - PAGE_SHIFT - 1) // _INDEX_BITS
        self._root_shift = PAGE_SHIFT + _INDEX_BITS * levels_below_root
        self._largest_shift = min(largest_shift, self._root_shift)
        self._tables: list[array[int]] = []
        self._children: dict[tuple[int, int], int] = {}
        self._new_table()

    @property
    def image(self) -> bytes:
        """Return the bytes to write at the tables' GPA."""
        return b"".join(table.tobytes() for table in self._tables)

    def map(self, window: Window) -> None:
        """Map a window with the largest blocks that its addresses allow.

        Raises `ValueError` if it is misaligned, beyond `gva_bits`, or overlaps another window.
        """
        gva, gpa, end = window.gva, window.gpa, window.gva + window.size
        if (gva | gpa | window.size) % PAGE or window.size <= 0:
            raise ValueError(f"not a multiple of 4 KiB pages: {window}")
        if end > 1 << self._gva_bits:
            raise ValueError(f"beyond the {self._gva_bits}-bit virtual address space: {window}")
        while gva < end:
            shift = self._shift_at(gva | gpa, end - gva)
            self._set(gva, shift, self._leaf(gpa, shift, window))
            gva += 1 << shift
            gpa += 1 << shift

    def _shift_at(self, addresses: int, room: int) -> int:
        shift = self._largest_shift
        while shift > PAGE_SHIFT and (addresses % (1 << shift) or room < 1 << shift):
            shift -= _INDEX_BITS
        return shift

    def _set(self, gva: int, shift: int, entry: int) -> None:
        table, level = 0, self._root_shift
        while level > shift:
            table = self._child(table, self._index(gva, level), gva)
            level -= _INDEX_BITS
        index = self._index(gva, level)
        if self._tables[table][index]:
            raise ValueError(f"GVA {gva:#x} is mapped twice")
        self._tables[table][index] = entry

    def _child(self, table: int, index: int, gva: int) -> int:
        if (child := self._children.get((table, index))) is not None:
            return child
        if self._tables[table][index]:
            raise ValueError(f"GVA {gva:#x} is mapped twice")
        child = self._children[table, index] = self._new_table()
        self._tables[table][index] = self._branch(self._gpa + child * PAGE)
        return child

    def _new_table(self) -> int:
        self._tables.append(array("Q", bytes(PAGE)))
        return len(self._tables) - 1

    @staticmethod
    def _index(gva: int, shift: int) -> int:
        return gva >> shift & ((1 << _INDEX_BITS) - 1)
