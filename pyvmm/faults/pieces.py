# SPDX-License-Identifier: GPL-2.0-only
"""A device's memory behind a memslot, read and written by the VMM in pieces that Device takes."""

import ctypes
from collections.abc import Iterator

from pyvmm.faults.board import GuestMemory
from pyvmm.faults.evidence import Evidence

_UNITS = {1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32, 8: ctypes.c_uint64}
_WIDEST = 8  # bytes


class DeviceMemory(GuestMemory):
    """Guest memory as `GuestMemory`, and the device's memory (PFNMAP) that evidence was found of.

    process_vm_readv(2) does not read that. Where no region of vfio's is behind it, the VMM's own
    mapping is, with one load or store for each piece.
    """

    def __init__(self, e: Evidence) -> None:
        assert e.slot
        assert e.slot.memory
        super().__init__(e.board)
        self._slot, self._memory, self._span = e.slot, e.slot.memory, e.span

    def read(self, gpa: int, size: int) -> bytes | None:
        if not self._holds(gpa):
            return super().read(gpa, size)
        return b"".join(self._load(at, piece) for at, piece in _pieces(gpa, size))

    def write(self, gpa: int, data: bytes) -> bool:
        if not self._holds(gpa):
            return super().write(gpa, data)
        for at, piece in _pieces(gpa, len(data)):
            self._store(at, data[at - gpa :][:piece])
        return True

    def _holds(self, gpa: int) -> bool:
        """Does it hold this, and so all that lies in the same page?"""
        start, end = self._span
        return start <= gpa < end

    def _load(self, gpa: int, size: int) -> bytes:
        hva = self._slot.hva_of(gpa)
        if backing := self._memory.backing:
            return backing.read(hva - self._memory.hva, size)
        return _UNITS[size].from_address(hva).value.to_bytes(size, "little")

    def _store(self, gpa: int, data: bytes) -> None:
        hva = self._slot.hva_of(gpa)
        if backing := self._memory.backing:
            backing.write(hva - self._memory.hva, data)
        else:
            _UNITS[len(data)].from_address(hva).value = int.from_bytes(data, "little")


def _pieces(gpa: int, size: int) -> Iterator[tuple[int, int]]:
    """`size` bytes from `gpa` as aligned parts of 1, 2, 4 or 8: where each is, and how large."""
    end = gpa + size
    while gpa < end:
        boundary = gpa | _WIDEST
        piece = min(boundary & -boundary, 1 << (end - gpa).bit_length() - 1)
        yield gpa, piece
        gpa += piece
