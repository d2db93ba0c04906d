# SPDX-License-Identifier: GPL-2.0-only
"""Device memory behind a memslot, accessed by the VMM in parts that Device memory takes."""

import ctypes
from collections.abc import Iterator

from pyvmm.faults.access_facts import GuestAccessFacts
from pyvmm.faults.context import VcpuContext
from pyvmm.faults.guest_memory import GuestMemory

_UNITS = {1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32, 8: ctypes.c_uint64}
_WIDEST = 8  # bytes


class AlignedDeviceMemory(GuestMemory):
    """Guest memory in which one memslot's VMA is device memory (PFNMAP).

    process_vm_readv(2) does not read PFNMAP memory. This reads the vfio region behind the VMA, or
    else the VMM's own mapping with one load or store for each aligned part.
    """

    def __init__(self, facts: GuestAccessFacts, context: VcpuContext) -> None:
        """Cover the VMA of the page that faulted, as far as the memslot shows it."""
        assert facts.memslot
        assert facts.memslot.memory
        assert facts.area
        super().__init__(context)
        self._slot, self._mapping, self._area = facts.memslot, facts.memslot.memory, facts.area

    def read(self, gpa: int, size: int) -> bytes | None:
        """Read `size` bytes at `gpa`; return None if neither memory nor a device responds."""
        if not self._covers(gpa):
            return super().read(gpa, size)
        return b"".join(self._load(at, part) for at, part in _aligned_parts(gpa, size))

    def write(self, gpa: int, data: bytes) -> bool:
        """Write `data` at `gpa`; return False if neither memory nor a device accepts it."""
        if not self._covers(gpa):
            return super().write(gpa, data)
        for at, part in _aligned_parts(gpa, len(data)):
            self._store(at, data[at - gpa :][:part])
        return True

    def _covers(self, gpa: int) -> bool:
        inside = self._slot.gpa <= gpa < self._slot.end
        return inside and self._area.start <= self._slot.hva_of(gpa) < self._area.end

    def _load(self, gpa: int, size: int) -> bytes:
        hva = self._slot.hva_of(gpa)
        if backing := self._mapping.backing:
            return backing.read(hva - self._mapping.hva, size)
        return _UNITS[size].from_address(hva).value.to_bytes(size, "little")

    def _store(self, gpa: int, data: bytes) -> None:
        hva = self._slot.hva_of(gpa)
        if backing := self._mapping.backing:
            backing.write(hva - self._mapping.hva, data)
        else:
            _UNITS[len(data)].from_address(hva).value = int.from_bytes(data, "little")


def _aligned_parts(gpa: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield `size` bytes at `gpa` as aligned parts of 1, 2, 4 or 8 bytes: (GPA, size)."""
    end = gpa + size
    while gpa < end:
        boundary = gpa | _WIDEST
        part = min(boundary & -boundary, 1 << (end - gpa).bit_length() - 1)
        yield gpa, part
        gpa += part
