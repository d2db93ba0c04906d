# SPDX-License-Identifier: GPL-2.0-only
"""One vfio device on a machine: opened, its BARs placed and registered, and undone together."""

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from pyvmm.caps import Report
from pyvmm.closeable import Closeable
from pyvmm.faults.board import BackedDevice
from pyvmm.machine import RAM_BASE, Machine
from pyvmm.passthrough.bar_slots import Part, SlotOutcome, register, register_flipped
from pyvmm.passthrough.device_report import report_emulated
from pyvmm.passthrough.placement import BAR_BASE, place
from pyvmm.passthrough.region_backing import RegionBacking
from pyvmm.vfio.bars import BarMapping, map_bar
from pyvmm.vfio.iommu_modes import AUTO, open_device
from pyvmm.vfio.rebind import bind_to_vfio
from pyvmm.vfio.regions import Region
from pyvmm.vfio.sysfs import PciFunction
from pyvmm.vfio.vfio_device import VfioDevice


@dataclass(frozen=True)
class PlacedBar:
    """A BAR with its GPA, its mapping, and what became of each of its parts."""

    region: Region
    gpa: int
    mapping: BarMapping
    slots: tuple[SlotOutcome, ...]


class AssignedDevice(Closeable):
    """A PCI function that belongs to a machine until it is closed.

    Attributes:
        device: the open vfio device.
        bars: its memory BARs, in order.
    """

    device: VfioDevice
    bars: tuple[PlacedBar, ...]

    def __init__(
        self,
        machine: Machine,
        caps: Report,
        address: str,
        *,
        mode: str = AUTO,
        bind: bool = False,
        beside: Sequence["AssignedDevice"] = (),
        flip: Collection[str] = (),
    ) -> None:
        """Open the function at `address`, let its DMA reach the machine's RAM, place its BARs.

        `bind` lends it to a vfio driver for that time. A device `beside` others shares their IO
        address space and lies behind them; close it before them. `caps` is what this host was
        found to offer. BARs whose names are in `flip` are registered as anonymous memory, and
        put in its place behind KVM's back.

        Raises what `open_device` and `bind_to_vfio` raise, and `IoctlError`.
        """
        self._machine = machine
        with ExitStack() as stack:
            if bind:
                stack.enter_context(bind_to_vfio(PciFunction.find(address)))
            neighbour = beside[0].device if beside else None
            self.device = stack.enter_context(open_device(address, mode, beside=neighbour))
            if not beside:
                self.device.dma.map(RAM_BASE, machine.ram)
            machine.vfio_files.add(self.device.kvm_file)
            stack.callback(machine.vfio_files.remove, self.device.kvm_file)
            self.device.config.enable_memory()
            ends = (bar.gpa + bar.region.size for other in beside for bar in other.bars)
            self.bars = tuple(
                self._place(region, gpa, caps, region.name in flip, stack)
                for region, gpa in place(self._memory_bars(), max(ends, default=BAR_BASE))
            )
            self._owned = stack.pop_all()

    @property
    def slots(self) -> list[SlotOutcome]:
        """What became of every part of every BAR."""
        return [slot for bar in self.bars for slot in bar.slots]

    def _memory_bars(self) -> list[Region]:
        """The BARs but those of port space, which a guest here has no use for."""
        bars = (r for name, r in self.device.regions.items() if name.startswith("BAR"))
        return [bar for bar in bars if not self.device.config.is_port_bar(bar.index)]

    def _place(
        self, region: Region, gpa: int, caps: Report, flipped: bool, stack: ExitStack
    ) -> PlacedBar:
        mapping = stack.enter_context(map_bar(region, self.device.split(region)))
        mapping.memory.backing = backing = RegionBacking(region, self.device.config)
        stack.callback(self._unregister, mapping)
        vm = self._machine.vm
        outcomes = [
            register_flipped(vm, mapping, area, gpa + area.offset)
            if flipped
            else register(vm, mapping, area, gpa + area.offset, caps)
            for area in mapping.areas
        ]
        outcomes += [
            SlotOutcome(
                Part(region.name, hole.area.offset, hole.area.size, gpa + hole.area.offset),
                "emulated",
                why=report_emulated(hole).why,
                cause="unmappable",
                fallback="emulate",
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
        # Whatever faults have made of its memslots; none are left if the machine was closed first.
        for slot in self._machine.vm.memslots:
            if slot.memory is mapping.memory:
                self._machine.vm.memslots.remove(slot)

    def close(self) -> None:
        """Unmap the BARs, close the device and give it back; end the machine's vCPU first."""
        self._owned.close()
