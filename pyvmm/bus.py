# SPDX-License-Identifier: GPL-2.0-only
"""Address decoding: emulated devices by address, looked up in O(log n).

A machine has one bus for GPAs (MMIO) and, on x86, one for I/O ports.
"""

import threading
from bisect import bisect_right
from typing import NamedTuple, Protocol


class BusDevice(Protocol):
    """An emulated device. Offsets and sizes are in bytes, values are little-endian integers."""

    def read(self, offset: int, size: int) -> int:
        """Return the value of `size` bytes at `offset`."""

    def write(self, offset: int, size: int, value: int) -> None:
        """Write `size` bytes of `value` at `offset`."""


class Attachment(NamedTuple):
    """A device on a bus, from address `start` to `end` (exclusive)."""

    start: int
    end: int
    device: BusDevice


class Bus:
    """Devices by address; their ranges do not overlap.

    Any thread may attach and detach devices. Others see the devices from before or after that.
    """

    def __init__(self) -> None:
        """Create a bus without devices."""
        self._changes = threading.Lock()
        self._map: tuple[list[int], list[Attachment]] = [], []  # start addresses, and in this order

    def attach(self, start: int, size: int, device: BusDevice) -> None:
        """Route `size` bytes from `start` to `device`. Raises `ValueError` on an overlap."""
        with self._changes:
            starts, attachments = self._map
            index = bisect_right(starts, start)
            before = attachments[index - 1] if index else None
            after = attachments[index] if index < len(attachments) else None
            if (before and before.end > start) or (after and start + size > after.start):
                raise ValueError(f"{start:#x}+{size:#x} overlaps another device on the bus")
            self._set(
                [
                    *attachments[:index],
                    Attachment(start, start + size, device),
                    *attachments[index:],
                ]
            )

    def detach(self, start: int, size: int) -> None:
        """Remove the devices attached between `start` and `start` + `size`."""
        end = start + size
        with self._changes:
            self._set([each for each in self._map[1] if each.start < start or end < each.end])

    def _set(self, attachments: list[Attachment]) -> None:
        self._map = [each.start for each in attachments], attachments

    def at(self, address: int, size: int = 1) -> Attachment | None:
        """Return the attachment that covers all `size` bytes from `address`, or None."""
        starts, attachments = self._map
        index = bisect_right(starts, address)
        if index:
            attachment = attachments[index - 1]
            if address + size <= attachment.end:
                return attachment
        return None

    def read(self, address: int, size: int) -> int | None:
        """Read from the device at `address`; return None if no device covers the access."""
        if attachment := self.at(address, size):
            return attachment.device.read(address - attachment.start, size)
        return None

    def write(self, address: int, size: int, value: int) -> bool:
        """Write to the device at `address`; return False if no device covers the access."""
        # `at`, inlined: the call would be half the cost of a guest's write to a device.
        starts, attachments = self._map
        index = bisect_right(starts, address)
        if index:
            start, end, device = attachments[index - 1]
            if address + size <= end:
                device.write(address - start, size, value)
                return True
        return False
