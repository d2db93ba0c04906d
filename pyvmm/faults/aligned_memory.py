# SPDX-License-Identifier: GPL-2.0-only
"""Device memory behind a memslot, accessed by the VMM in aligned parts."""

import ctypes
from collections.abc import Iterator
from typing import Any

from pyvmm.faults.access_facts import GuestAccessFacts
from pyvmm.faults.context import VcpuContext
from pyvmm.faults.guest_memory import GuestMemory

_UNITS = {1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32, 8: ctypes.c_uint64}
_WIDEST = 8  # bytes


class AlignedDeviceMemory(GuestMemory):
    """Guest memory in which one memslot's VMA is device memory (PFNMAP) without a `backing`.

    process_vm_readv(2) does not read PFNMAP memory. Each aligned part is one load or store through
    the VMM's own mapping, as with a BAR that sysfs has mapped.
    """

    def __init__(self, facts: GuestAccessFacts, context: VcpuContext) -> None:
        """Cover the part of the memslot in the VMA of the page that faulted."""
        assert facts.memslot
        assert facts.area
        super().__init__(context)
        self._slot, self._area = facts.memslot, facts.area

    def read(self, gpa: int, size: int) -> bytes | None:
        """Read `size` bytes at `gpa`; return None if neither memory nor a device responds."""
        if not self._covers(gpa):
            return super().read(gpa, size)
        return b"".join(
            self._unit(at, part).value.to_bytes(part, "little")
            for at, part in _aligned_parts(gpa, size)
        )

    def write(self, gpa: int, data: bytes) -> bool:
        """Write `data` at `gpa`; return False if neither memory nor a device accepts it."""
        if not self._covers(gpa):
            return super().write(gpa, data)
        for at, part in _aligned_parts(gpa, len(data)):
            self._unit(at, part).value = int.from_bytes(data[at - gpa :][:part], "little")
        return True

    def _covers(self, gpa: int) -> bool:
        inside = self._slot.gpa <= gpa < self._slot.end
        return inside and self._area.start <= self._slot.hva_of(gpa) < self._area.end

    def _unit(self, gpa: int, size: int) -> Any:
        return _UNITS[size].from_address(self._slot.hva_of(gpa))


def _aligned_parts(gpa: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield `size` bytes at `gpa` as aligned parts of 1, 2, 4 or 8 bytes: (GPA, size)."""
    end = gpa + size
    while gpa < end:
        boundary = gpa | _WIDEST
        part = min(boundary & -boundary, 1 << (end - gpa).bit_length() - 1)
        yield gpa, part
        gpa += part
