# SPDX-License-Identifier: GPL-2.0-only
"""Radix page tables of 512 eight-byte entries, which arm64 (4 KiB granule) and x86-64 share."""

from array import array
from collections.abc import Callable

from pyvmm.arch.page_tables import Window

PAGE_SHIFT = 12
PAGE = 1 << PAGE_SHIFT
_INDEX_BITS = 9

# What a leaf says: (gpa, shift of the page or block that it maps, window) → entry.
type_of_leaf = Callable[[int, int, Window], int]
# What an entry that leads to another table says: gpa of that table → entry.
type_of_branch = Callable[[int], int]


class Tables:
    """Page tables that grow as windows are mapped. The root is the first page of `image`."""

    def __init__(
        self,
        gpa: int,
        *,
        leaf: type_of_leaf,
        branch: type_of_branch,
        gva_bits: int,
        largest_shift: int,
    ) -> None:
        """Start with an empty root.

        Args:
            gpa: where the tables will lie, a multiple of 4 KiB.
            leaf, branch: the architecture's encoding.
            gva_bits: how wide a guest virtual address is.
            largest_shift: the largest block to map with one entry, as a power of two: 21 or 30.
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
        """The bytes to put at the tables' GPA."""
        return b"".join(table.tobytes() for table in self._tables)

    def map(self, window: Window) -> None:
        """Map a window with the largest blocks that its addresses allow.

        Raises `ValueError` where it is misaligned, too high, or meets an earlier window.
        """
        gva, gpa, end = window.gva, window.gpa, window.gva + window.size
        if (gva | gpa | window.size) % PAGE or window.size <= 0:
            raise ValueError(f"not whole pages of 4 KiB: {window}")
        if end > 1 << self._gva_bits:
            raise ValueError(f"beyond the {self._gva_bits} bits of a virtual address: {window}")
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
