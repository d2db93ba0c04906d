# SPDX-License-Identifier: GPL-2.0-only
"""What this floor needs of the machine above it, and guest memory as seen from here."""

from typing import NamedTuple, Protocol

from pyvmm.arch.architecture import Architecture
from pyvmm.kvm.memslots import Memslots
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.kvm.vm import Vm
from pyvmm.memory import PAGE_SIZE, Backing
from pyvmm.memory.peek import peek, poke


class BusDevice(Protocol):
    """`pyvmm.bus.Device`."""

    def read(self, offset: int, size: int) -> int: ...
    def write(self, offset: int, size: int, value: int) -> None: ...


class Attachment(Protocol):
    """`pyvmm.bus.Attachment`."""

    @property
    def device(self) -> BusDevice: ...


class Bus(Protocol):
    """`pyvmm.bus.Bus`."""

    def attach(self, start: int, size: int, device: BusDevice) -> None: ...
    def at(self, address: int) -> "Attachment | None": ...
    def read(self, address: int, size: int) -> int | None: ...
    def write(self, address: int, size: int, value: int) -> bool: ...


class Board(NamedTuple):
    """The parts of a `pyvmm.machine.Machine` that faults concern; `mmio` is its bus of GPAs.

    `pid` is the process whose VM it is, where that is not this one (see `pyvmm.trace.explain`).
    """

    vm: Vm
    vcpu: Vcpu
    arch: Architecture
    mmio: Bus
    pid: int | None = None

    def peek(self, gpa: int, size: int) -> bytes | None:
        """Guest memory without touching a device; None where it cannot all be read."""
        return peek_guest(self.vm.memslots, gpa, size)


def peek_guest(memslots: Memslots, gpa: int, size: int) -> bytes | None:
    """`size` bytes of guest memory from `gpa`, across memslots that touch."""
    data = b""
    while size:
        slot = memslots.at(gpa)
        if slot is None:
            return None
        part = min(size, slot.end - gpa)
        there = peek(slot.hva_of(gpa), part)
        if there is None:
            return None
        data, gpa, size = data + there, gpa + part, size - part
    return data


class GuestMemory:
    """Guest physical memory with its devices, as an instruction sees it (`PhysicalMemory`)."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def peek(self, gpa: int, size: int) -> bytes | None:
        return self._board.peek(gpa, size)

    def read(self, gpa: int, size: int) -> bytes | None:
        if self._board.vm.memslots.at(gpa):
            return self._board.peek(gpa, size)
        value = self._board.mmio.read(gpa, size)
        return None if value is None else value.to_bytes(size, "little")

    def write(self, gpa: int, data: bytes) -> bool:
        slot = self._board.vm.memslots.at(gpa)
        if slot and not slot.readonly:
            return poke(slot.hva_of(gpa), data)
        return self._board.mmio.write(gpa, len(data), int.from_bytes(data, "little"))


class BackedDevice:
    """A device on the bus that is `backing` from its byte `offset` on.

    What the hardware does not answer reads as all ones and swallows writes, as on PCI; `failures`
    counts those. The guest chooses what it accesses, so that is no error of the VMM's.
    """

    def __init__(self, backing: Backing, offset: int) -> None:
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
    """A GPA that an address of this process is shown at, or None."""
    for slot in memslots:
        if slot.hva <= hva < slot.hva + slot.size:
            return slot.gpa + hva - slot.hva
    return None


def page_of(address: int) -> int:
    """The start of the host's page around an address."""
    return address & -PAGE_SIZE
