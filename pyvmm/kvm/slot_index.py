# SPDX-License-Identifier: GPL-2.0-only
"""The memslots of a VM by number and by GPA.

Bits 31:16 of a slot's number are its address space. Slots of different address spaces do not
overlap: on x86, space 1 has the slots of a vCPU in SMM (KVM_CAP_MULTI_ADDRESS_SPACE).
"""

from bisect import bisect_right, insort
from collections.abc import Iterator
from operator import attrgetter
from typing import Generic, TypeVar

from pyvmm.why import Slot

S = TypeVar("S", bound=Slot)

_gpa = attrgetter("gpa")


class SlotIndex(Generic[S]):
    """A set of memslots without overlaps in an address space."""

    def __init__(self) -> None:
        """Start without a slot."""
        self._numbered: dict[int, S] = {}
        self._spaces: dict[int, list[S]] = {}  # each by GPA

    def add(self, slot: S) -> None:
        """Add a slot, in place of the one with its number."""
        self.remove(slot.number)
        insort(self._spaces.setdefault(slot.address_space, []), slot, key=_gpa)
        self._numbered[slot.number] = slot

    def remove(self, number: int) -> None:
        """Remove slot `number`, if there is one."""
        if slot := self._numbered.pop(number, None):
            space = self._spaces[slot.address_space]
            del space[bisect_right(space, slot.gpa, key=_gpa) - 1]

    def clear(self) -> None:
        """Remove all slots."""
        self._numbered.clear()
        self._spaces.clear()

    def numbered(self, number: int) -> S | None:
        """Return slot `number`, or None."""
        return self._numbered.get(number)

    def at(self, gpa: int) -> S | None:
        """Return the slot of address space 0 that backs `gpa`, or None, in O(log n)."""
        slots = self._spaces.get(0, [])
        index = bisect_right(slots, gpa, key=_gpa)
        if index and gpa < slots[index - 1].end:
            return slots[index - 1]
        return None

    def __iter__(self) -> Iterator[S]:
        """Iterate over a copy: by address space, then by GPA."""
        spaces = sorted(self._spaces.items())
        return iter([slot for _, slots in spaces for slot in slots])

    def __len__(self) -> int:
        """Return the number of slots."""
        return len(self._numbered)
