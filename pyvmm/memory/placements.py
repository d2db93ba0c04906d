# SPDX-License-Identifier: GPL-2.0-only
"""What was placed where in a mapping: the record of what its owner meant to be there.

The kernel only tells what is there now. A mapping that someone else changed, behind its owner's
back, can be put right again with this.
"""

from collections.abc import Iterator
from typing import NamedTuple


class Placement(NamedTuple):
    """Bytes `start` to `end` (exclusive) of a mapping.

    Attributes:
        prot: ``PROT_*`` flags.
        fd: the file, mapped shared from its byte `offset`; None for anonymous memory.
    """

    start: int
    end: int
    prot: int
    fd: int | None = None
    offset: int = 0

    @property
    def size(self) -> int:
        return self.end - self.start

    def part(self, start: int, end: int) -> "Placement":
        """The part of this placement within `start` to `end`, which it overlaps."""
        if start <= self.start and self.end <= end:
            return self
        first = max(start, self.start)
        return self._replace(start=first, end=min(end, self.end), offset=self._offset_of(first))

    def goes_on_in(self, other: "Placement") -> bool:
        """Whether `other` is what this would be if it were longer."""
        return (
            other.start == self.end
            and (other.prot, other.fd) == (self.prot, self.fd)
            and other.offset == self._offset_of(other.start)
        )

    def _offset_of(self, at: int) -> int:
        return 0 if self.fd is None else self.offset + at - self.start


class Placements:
    """The placements of one mapping: in order, none overlapping, as few as can be."""

    def __init__(self) -> None:
        self._list: list[Placement] = []

    def add(self, placement: Placement) -> None:
        """Record a placement over whatever was there."""
        self.remove(placement.start, placement.end)
        self._list.append(placement)
        self._list.sort(key=lambda each: each.start)
        joined: list[Placement] = []
        for each in self._list:
            if joined and joined[-1].goes_on_in(each):
                joined[-1] = joined[-1]._replace(end=each.end)
            else:
                joined.append(each)
        self._list = joined

    def remove(self, start: int, end: int) -> None:
        """Record that nothing is there any more."""
        kept: list[Placement] = []
        for each in self._list:
            if each.end <= start or end <= each.start:
                kept.append(each)
                continue
            if each.start < start:
                kept.append(each.part(each.start, start))
            if end < each.end:
                kept.append(each.part(end, each.end))
        self._list = kept

    def protect(self, start: int, end: int, prot: int) -> None:
        """Record other ``PROT_*`` flags for what is there."""
        for each in list(self.within(start, end)):
            self.add(each._replace(prot=prot))

    def within(self, start: int, end: int) -> Iterator[Placement]:
        """The placements, or parts of them, from `start` to `end`."""
        for each in self._list:
            if each.start < end and start < each.end:
                yield each.part(start, end)

    def __len__(self) -> int:
        return len(self._list)
