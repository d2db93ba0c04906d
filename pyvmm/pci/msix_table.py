# SPDX-License-Identifier: GPL-2.0-only
"""The MSI-X table of a function as the guest sees it (PCI 3.0, 6.8.2)."""

import struct
from collections.abc import Callable
from typing import NamedTuple

ENTRY_SIZE = 16
_ENTRY = struct.Struct("<QII")  # message address, message data, vector control
_MASKED = 1  # in vector control
_RESET = _ENTRY.pack(0, 0, _MASKED)


class Message(NamedTuple):
    """An entry of the table."""

    address: int
    data: int
    masked: bool


class MsixTable:
    """A table of `vectors` entries, all masked at first."""

    def __init__(self, vectors: int, changed: Callable[[int], object]) -> None:
        """Call `changed` with the number of each vector that the guest writes."""
        self.vectors = vectors
        self._bytes = bytearray(_RESET * vectors)
        self._changed = changed

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        return len(self._bytes)

    def __getitem__(self, vector: int) -> Message:
        """Return the message of a vector."""
        address, data, control = _ENTRY.unpack_from(self._bytes, vector * ENTRY_SIZE)
        return Message(address, data, bool(control & _MASKED))

    def read(self, offset: int, size: int) -> int:
        """Read `size` bytes at byte `offset`."""
        return int.from_bytes(self._bytes[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Write `size` bytes at byte `offset`."""
        end = min(offset + size, self.size)
        self._bytes[offset:end] = value.to_bytes(size, "little")[: end - offset]
        for vector in range(offset // ENTRY_SIZE, -(-end // ENTRY_SIZE)):
            self._changed(vector)
