# SPDX-License-Identifier: GPL-2.0-only
"""Guest physical memory as the VMM reads and writes it: memslots, and devices on the bus."""

from contextlib import suppress

from pyvmm.faults.context import VcpuContext
from pyvmm.kvm.memslots import Memslots
from pyvmm.memory import PAGE_SIZE, Backing
from pyvmm.memory.peek import peek, poke


def peek_guest(memslots: Memslots, gpa: int, size: int) -> bytes | None:
    """Return `size` bytes of guest memory at `gpa`, or None if they cannot all be read.

    The range may span memslots with adjacent GPAs. No device is touched.
    """
    data = b""
    while size:
        slot = memslots.at(gpa)
        if slot is None:
            return None
        count = min(size, slot.end - gpa)
        part = peek(slot.hva_of(gpa), count)
        if part is None and slot.memory and (backing := slot.memory.backing) and backing.is_ram:
            with suppress(OSError):  # PFNMAP, which process_vm_readv(2) does not read
                part = backing.read(slot.hva_of(gpa) - slot.memory.hva, count)
        if part is None:
            return None
        data, gpa, size = data + part, gpa + count, size - count
    return data


class GuestMemory:
    """Guest physical memory and its devices, for an emulated instruction.

    Device memory (PFNMAP) behind a memslot goes through the mapping's `backing`, since
    process_vm_readv(2) does not read it. Implements `pyvmm.arch.guest_access.PhysicalMemory`.
    """

    def __init__(self, context: VcpuContext) -> None:
        """Use the memslots and the bus of `context`."""
        self._memslots, self._mmio = context.vm.memslots, context.mmio
        self._protected = context.vm.protected

    def peek(self, gpa: int, size: int) -> bytes | None:
        """Return `size` bytes at `gpa` without touching a device, or None."""
        return None if self._protected else peek_guest(self._memslots, gpa, size)

    def read(self, gpa: int, size: int) -> bytes | None:
        """Read `size` bytes at `gpa`; return None if neither memory nor a device responds."""
        slot = self._memslots.at(gpa)
        if slot is None:
            value = self._mmio.read(gpa, size)
            return None if value is None else value.to_bytes(size, "little")
        data = self.peek(gpa, size)
        if data is None and slot.memory and (backing := slot.memory.backing):
            with suppress(OSError):
                return backing.read(slot.hva_of(gpa) - slot.memory.hva, size)
        return data

    def write(self, gpa: int, data: bytes) -> bool:
        """Write `data` at `gpa`; return False if neither memory nor a device accepts it."""
        slot = self._memslots.at(gpa)
        if slot is None or slot.readonly:
            return self._mmio.write(gpa, len(data), int.from_bytes(data, "little"))
        if self._protected:
            return False
        if poke(slot.hva_of(gpa), data):
            return True
        if slot.memory and (backing := slot.memory.backing):
            with suppress(OSError):
                backing.write(slot.hva_of(gpa) - slot.memory.hva, data)
                return True
        return False


class BackedDevice:
    """An emulated device that passes accesses on to `backing`, from its byte `offset`.

    An access that the hardware rejects reads as all ones or drops the write, as on PCI, and
    `failures` counts it: the guest chooses its accesses, so this is not an error of the VMM.
    """

    def __init__(self, backing: Backing, offset: int) -> None:
        """Start with no failures."""
        self.backing = backing
        self._offset = offset
        self.failures = 0

    def read(self, offset: int, size: int) -> int:
        """Read `size` bytes of the backing."""
        try:
            return int.from_bytes(self.backing.read(self._offset + offset, size), "little")
        except OSError:
            self.failures += 1
            return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Write `size` bytes of the backing."""
        try:
            self.backing.write(self._offset + offset, value.to_bytes(size, "little"))
        except OSError:
            self.failures += 1


def gpa_of(memslots: Memslots, hva: int) -> int | None:
    """Return a GPA that `hva` backs, or None."""
    for slot in memslots:
        if slot.hva <= hva < slot.hva + slot.size:
            return slot.gpa + hva - slot.hva
    return None


def page_of(address: int) -> int:
    """Return the start of the host page that contains an address."""
    return address & -PAGE_SIZE
