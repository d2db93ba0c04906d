# SPDX-License-Identifier: GPL-2.0-only
"""A record of the mmap calls made in a range.

``/proc/self/smaps`` shows the current VMAs only. With this record, a mapping that other code
replaced, unmapped or protected can be restored.
"""

from collections.abc import Iterator
from typing import NamedTuple


class Placement(NamedTuple):
    """A mapping of bytes `start` to `end` (exclusive) of a range.

    Attributes:
        prot: ``PROT_*`` flags.
        fd: the file, mapped ``MAP_SHARED`` from byte `offset`, or None for anonymous memory.
    """

    start: int
    end: int
    prot: int
    fd: int | None = None
    offset: int = 0

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        return self.end - self.start

    def part(self, start: int, end: int) -> "Placement":
        """Return the part of this placement within `start` to `end`, which must overlap it."""
        if start <= self.start and self.end <= end:
            return self
        first = max(start, self.start)
        return self._replace(start=first, end=min(end, self.end), offset=self._offset_of(first))

    def can_merge(self, following: "Placement") -> bool:
        """Return True if `following` continues this placement, as the kernel merges VMAs."""
        return (
            following.start == self.end
            and (following.prot, following.fd) == (self.prot, self.fd)
            and following.offset == self._offset_of(following.start)
        )

    def _offset_of(self, at: int) -> int:
        return 0 if self.fd is None else self.offset + at - self.start


class Placements:
    """The placements of one range: sorted, without overlaps, merged where possible."""

    def __init__(self) -> None:
        """Create an empty record."""
        self._list: list[Placement] = []

    def add(self, placement: Placement) -> None:
        """Record a placement; it replaces the parts that it overlaps."""
        self.remove(placement.start, placement.end)
        merged: list[Placement] = []
        for each in sorted([*self._list, placement], key=lambda each: each.start):
            if merged and merged[-1].can_merge(each):
                merged[-1] = merged[-1]._replace(end=each.end)
            else:
                merged.append(each)
        self._list = merged

    def remove(self, start: int, end: int) -> None:
        """Record that `start` to `end` is unmapped."""
        rest: list[Placement] = []
        for each in self._list:
            if each.end <= start or end <= each.start:
                rest.append(each)
                continue
            if each.start < start:
                rest.append(each.part(each.start, start))
            if end < each.end:
                rest.append(each.part(end, each.end))
        self._list = rest

    def protect(self, start: int, end: int, prot: int) -> None:
        """Record new ``PROT_*`` flags for the placements in `start` to `end`."""
        for each in list(self.within(start, end)):
            self.add(each._replace(prot=prot))

    def within(self, start: int, end: int) -> Iterator[Placement]:
        """Yield the placements, cut to `start` to `end`, in order."""
        for each in self._list:
            if each.start < end and start < each.end:
                yield each.part(start, end)

    def __len__(self) -> int:
        """Return the number of placements after merging."""
        return len(self._list)
