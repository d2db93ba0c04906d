# SPDX-License-Identifier: GPL-2.0-only
"""A vfio device assigned to a machine: opened, its BARs placed and registered, and released."""

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from pyvmm.closeable import Closeable
from pyvmm.faults.guest_memory import BackedDevice
from pyvmm.machine import RAM_BASE, Machine
from pyvmm.passthrough.device_report import report_emulated
from pyvmm.passthrough.placement import BAR_BASE, place
from pyvmm.pci.bar_slots import Part, SlotOutcome, register, register_flipped
from pyvmm.vfio.bars import BarMapping
from pyvmm.vfio.bdf import Bdf
from pyvmm.vfio.iommu_modes import AUTO, open_device
from pyvmm.vfio.region_backing import map_backed
from pyvmm.vfio.regions import Region
from pyvmm.vfio.vfio_device import VfioDevice


@dataclass(frozen=True)
class PlacedBar:
    """A BAR with its GPA, its mapping, and the outcome of each of its parts."""

    region: Region
    gpa: int
    mapping: BarMapping
    slots: tuple[SlotOutcome, ...]


class AssignedDevice(Closeable):
    """A PCI function that is assigned to a machine until it is closed.

    Attributes:
        device: the open vfio device.
        bars: its memory BARs, in order.
    """

    device: VfioDevice
    bars: tuple[PlacedBar, ...]

    def __init__(
        self,
        machine: Machine,
        address: str | Bdf,
        *,
        mode: str = AUTO,
        beside: Sequence["AssignedDevice"] = (),
        flip: Collection[str] = (),
    ) -> None:
        """Open the function at `address`, map the machine's RAM for its DMA, place its BARs.

        A device `beside` others shares their IO address space, and its BARs follow theirs; close it
        before them. The BARs named in `flip` are registered as anonymous memory, over which the BAR
        is mapped afterwards.

        Raises `IoctlError`, and what `open_device` raises.
        """
        self._machine = machine
        with ExitStack() as stack:
            neighbour = beside[0].device if beside else None
            self.device = stack.enter_context(open_device(address, mode, beside=neighbour))
            if not beside:
                self.device.dma.map(RAM_BASE, machine.ram)
            machine.vfio_files.add(self.device.kvm_file)
            stack.callback(machine.vfio_files.remove, self.device.kvm_file)
            self.device.config.enable_memory()
            ends = (bar.gpa + bar.region.size for other in beside for bar in other.bars)
            self.bars = tuple(
                self._place(region, gpa, region.name in flip, stack)
                for region, gpa in place(self._memory_bars(), max(ends, default=BAR_BASE))
            )
            self._owned = stack.pop_all()

    @property
    def slots(self) -> list[SlotOutcome]:
        """Return the outcome of each part of each BAR."""
        return [slot for bar in self.bars for slot in bar.slots]

    def _memory_bars(self) -> list[Region]:
        """Return the memory BARs; a guest cannot use I/O port BARs here."""
        bars = (r for name, r in self.device.regions.items() if name.startswith("BAR"))
        return [bar for bar in bars if not self.device.config.is_port_bar(bar.index)]

    def _place(self, region: Region, gpa: int, flipped: bool, stack: ExitStack) -> PlacedBar:
        mapping, backing = map_backed(self.device, region)
        stack.enter_context(mapping)
        stack.callback(self._unregister, mapping)
        vm = self._machine.vm
        register_area = register_flipped if flipped else register
        outcomes = [register_area(vm, mapping, area, gpa + area.offset) for area in mapping.areas]
        outcomes += [
            SlotOutcome(
                Part(region.name, hole.area.offset, hole.area.size, gpa + hole.area.offset),
                "emulated",
                why=report_emulated(hole).why,
                cause="unmappable",
            )
            for hole in mapping.emulated
        ]
        for outcome in outcomes:
            if outcome.slot is None:
                part = outcome.part
                self._machine.mmio.attach(part.gpa, part.size, BackedDevice(backing, part.offset))
        outcomes.sort(key=lambda outcome: outcome.part.offset)
        return PlacedBar(region, gpa, mapping, tuple(outcomes))

    def _unregister(self, mapping: BarMapping) -> None:
        # If the machine was closed first, none are left.
        self._machine.vm.memslots.remove_backed_by(mapping.memory)

    def close(self) -> None:
        """Unmap the BARs and close the device; the machine's vCPU must not be running."""
        self._owned.close()
