# SPDX-License-Identifier: GPL-2.0-only
"""Who answers an access: devices at addresses, found in O(log n).

A machine has one bus for GPAs and, on x86, one for ports.
"""

from bisect import bisect_right
from typing import NamedTuple, Protocol


class Device(Protocol):
    """What answers accesses. Offsets and sizes are in bytes, values little-endian integers."""

    def read(self, offset: int, size: int) -> int:
        """The value of `size` bytes at `offset`."""

    def write(self, offset: int, size: int, value: int) -> None:
        """Take `size` bytes at `offset`."""


class Attachment(NamedTuple):
    """A device on a bus, from address `start` to `end` (exclusive)."""

    start: int
    end: int
    device: Device


class Bus:
    """Devices by address; ranges do not overlap."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._attachments: list[Attachment] = []

    def attach(self, start: int, size: int, device: Device) -> None:
        """Let `device` answer `size` bytes from `start`. Raises `ValueError` on an overlap."""
        index = bisect_right(self._starts, start)
        before = self._attachments[index - 1] if index else None
        after = self._attachments[index] if index < len(self._attachments) else None
        if (before and before.end > start) or (after and start + size > after.start):
            raise ValueError(f"{start:#x}+{size:#x} overlaps another device on the bus")
        self._starts.insert(index, start)
        self._attachments.insert(index, Attachment(start, start + size, device))

    def at(self, address: int, size: int = 1) -> Attachment | None:
        """The attachment that answers for all of `size` bytes from `address`."""
        index = bisect_right(self._starts, address)
        if index:
            found = self._attachments[index - 1]
            if address + size <= found.end:
                return found
        return None

    def read(self, address: int, size: int) -> int | None:
        """The answer to a read, or None where nobody is at that address."""
        if found := self.at(address, size):
            return found.device.read(address - found.start, size)
        return None

    def write(self, address: int, size: int, value: int) -> bool:
        """Hand a write over; False where nobody is at that address."""
        # `at`, written out: this is half of what a guest's write to a device costs.
        index = bisect_right(self._starts, address)
        if index:
            start, end, device = self._attachments[index - 1]
            if address + size <= end:
                device.write(address - start, size, value)
                return True
        return False
