# SPDX-License-Identifier: GPL-2.0-only
"""A memory BAR at the address that the guest gives it: memslots, and emulated areas."""

from collections.abc import Mapping

from pyvmm.bus import Bus, BusDevice
from pyvmm.closeable import Closeable
from pyvmm.faults.guest_memory import BackedDevice
from pyvmm.kvm.vm import Vm
from pyvmm.pci.bar_slots import SlotOutcome, register, register_flipped
from pyvmm.pci.counted_device import AccessCounts, CountedDevice
from pyvmm.vfio.region_backing import map_backed
from pyvmm.vfio.region_caps import Area
from pyvmm.vfio.regions import Region
from pyvmm.vfio.vfio_device import VfioDevice

# linux/pci_regs.h
_BAR0 = 0x10
_64_BIT = 1 << 2


class GuestBar(Closeable):
    """A BAR, which is at no address until `place`.

    Attributes:
        wide: True if its address has 64 bits.
        gpa: its address, or None.
        outcomes: the outcomes of the memslots at the last `place`.
    """

    def __init__(
        self,
        vm: Vm,
        bus: Bus,
        device: VfioDevice,
        region: Region,
        registers: Mapping[Area, BusDevice],
        counts: AccessCounts,
        *,
        flip: bool = False,
    ) -> None:
        """Map the BAR. The areas of `registers` are emulated; `counts` counts what exits.

        With `flip`, its memslots are those of `register_flipped`.
        """
        self._vm, self._bus = vm, bus
        self.region = region
        self.wide = bool(device.config.read(_BAR0 + 4 * region.index, 4) & _64_BIT)
        self.gpa: int | None = None
        self.outcomes: tuple[SlotOutcome, ...] = ()
        self._mapping, self._backing = map_backed(device, region, trap=registers)
        self._name = f"{device.function} {region.name}"
        self._registers, self._counts = registers, counts
        self._flip = flip

    def place(self, gpa: int) -> None:
        """Register the BAR's memslots at `gpa`. A rejected one is emulated."""
        self.remove()
        self.gpa = gpa
        if self._flip:
            self._write_copies_back()
        register_area = register_flipped if self._flip else register
        self.outcomes = tuple(
            register_area(self._vm, self._mapping, area, gpa + area.offset)
            for area in self._mapping.areas
        )
        emulated = [hole.area for hole in self._mapping.emulated]
        for outcome in self.outcomes:
            if outcome.slot is None:
                emulated.append(Area(outcome.part.offset, outcome.part.size))
        for area in emulated:
            device = _EmulatedArea(BackedDevice(self._backing, 0), area.offset, self._registers)
            self._bus.attach(
                gpa + area.offset, area.size, CountedDevice(device, self._name, self._counts)
            )

    def _write_copies_back(self) -> None:
        """Write the pages that fault handling replaced by copies back to the device."""
        memory = self._mapping.memory
        for area in self._mapping.areas:
            for copy in memory.placements.within(area.offset, area.end):
                if copy.fd is None:
                    self._backing.write(copy.start, memory.read(copy.start, copy.size))

    def remove(self) -> None:
        """Delete the BAR's memslots, and what is emulated in its place. Idempotent."""
        if self.gpa is not None:
            self._vm.memslots.remove_backed_by(self._mapping.memory)
            self._bus.detach(self.gpa, self.region.size)  # fault handling may emulate a part
            self.gpa = None

    def close(self) -> None:
        """Delete the memslots and unmap the BAR."""
        self.remove()
        self._mapping.close()


class _EmulatedArea:
    """The device's BAR from byte `start`, apart from the registers that the VMM emulates."""

    def __init__(self, bar: BusDevice, start: int, registers: Mapping[Area, BusDevice]) -> None:
        self._bar, self._start = bar, start
        self._registers = tuple(registers.items())

    def read(self, offset: int, size: int) -> int:
        """Read from the registers or the device; across their border, all ones."""
        at = self._start + offset
        for area, registers in self._registers:
            if area.offset <= at and at + size <= area.end:
                return registers.read(at - area.offset, size)
            if at < area.end and area.offset < at + size:
                return (1 << 8 * size) - 1
        return self._bar.read(at, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write to the registers or the device; across their border, drop the write."""
        at = self._start + offset
        for area, registers in self._registers:
            if area.offset <= at and at + size <= area.end:
                registers.write(at - area.offset, size, value)
                return
            if at < area.end and area.offset < at + size:
                return
        self._bar.write(at, size, value)
