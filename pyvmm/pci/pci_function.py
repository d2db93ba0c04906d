# SPDX-License-Identifier: GPL-2.0-only
"""A vfio device as a PCI function of the guest: its config space, BARs and interrupts.

vfio virtualizes most of config space, and sizes BARs itself. The rest is here: registers that the
guest must not see, and the effects of its writes on memslots and interrupts.
"""

from collections.abc import Collection, Iterator
from contextlib import ExitStack

from pyvmm.bus import Bus, BusDevice
from pyvmm.closeable import Closeable
from pyvmm.kvm.vm import Vm
from pyvmm.pci.counted_device import AccessCounts
from pyvmm.pci.gsi_routes import GsiRoutes
from pyvmm.pci.guest_bar import GuestBar
from pyvmm.pci.interrupts import MSI_ENABLE, MSIX_CONTROL_BITS, Interrupts, MsiCapability
from pyvmm.pci.msix_pba import MsixPba
from pyvmm.vfio.region_caps import Area
from pyvmm.vfio.regions import RegionError
from pyvmm.vfio.vfio_device import VfioDevice

# linux/pci_regs.h
_COMMAND = 0x04
_COMMAND_MEMORY = 1 << 1
_HEADER_TYPE = 0x0E
_HEADER_TYPE_MULTI_FUNCTION = 0x80
_BAR0 = 0x10
_BAR_END = 0x28
_BAR_ADDRESS = 0xFFFF_FFF0
_ROM = 0x30
_CAP_ID_PM = 0x01
_CAP_ID_MSIX = 0x11
_BARS = 6


class PciFunction(Closeable):
    """A PCI function of the guest.

    Attributes:
        device: the vfio device.
        bars: its memory BARs.
        interrupts: its interrupts.
    """

    def __init__(
        self,
        vm: Vm,
        bus: Bus,
        routes: GsiRoutes,
        device: VfioDevice,
        requester_id: int,
        spi: int,
        counts: AccessCounts,
        flip: Collection[str] = (),
    ) -> None:
        """Map the BARs, which the guest has yet to place, and enable INTx. Raises `IoctlError`.

        `flip` names the BARs to register with `register_flipped`.
        """
        self.device = device
        self._config = config = device.config
        capabilities = dict(config.capabilities())
        self._pm = capabilities.get(_CAP_ID_PM)
        self._msix_control = capabilities.get(_CAP_ID_MSIX, -0x100) + 3
        # Bytes of config space with a value of ours, which the guest cannot write.
        header = config.read(_HEADER_TYPE, 1) & ~_HEADER_TYPE_MULTI_FUNCTION
        self._fixed = {_HEADER_TYPE: header, **dict.fromkeys(range(_ROM, _ROM + 4), 0)}
        config.write(_COMMAND, 2, 0)  # a guest before a reboot may have left it
        with ExitStack() as stack:
            self.interrupts = Interrupts(vm, routes, device, requester_id, spi)
            stack.enter_context(self.interrupts)
            self.bars: list[GuestBar] = []
            for number in range(_BARS):
                region = device.regions.get(f"BAR{number}")
                if region and config.is_port_bar(number):
                    at = _BAR0 + 4 * number
                    self._fixed |= dict.fromkeys(range(at, at + 4), 0)
                elif region:
                    registers = dict(self._msix_registers(number))
                    flipped = region.name in flip
                    bar = GuestBar(vm, bus, device, region, registers, counts, flip=flipped)
                    self.bars.append(stack.enter_context(bar))
                # The host's address, or the upper half of a 64-bit BAR.
                config.write(_BAR0 + 4 * number, 4, 0)
            self._owned = stack.pop_all()

    def read(self, offset: int, size: int) -> int:
        """Read config space; what the device does not have reads as all ones."""
        try:
            data = bytearray(self._config.region.read(offset, size))
        except RegionError:
            return (1 << 8 * size) - 1
        for n in range(size):
            data[n] = self._fixed.get(offset + n, data[n])
            if (msi := self.interrupts.msi) and offset + n == msi.at + 2:
                data[n] = data[n] & ~MSI_ENABLE | msi.enabled
            if offset + n == self._msix_control:
                data[n] = data[n] & ~MSIX_CONTROL_BITS | self.interrupts.msix_control
        return int.from_bytes(data, "little")

    def write(self, offset: int, size: int, value: int) -> bool:
        """Write config space; return True if the BARs may have moved."""
        end = offset + size
        data = value.to_bytes(size, "little")
        places = self._overlaps(offset, end, _COMMAND, 2) or self._overlaps(
            offset, end, _BAR0, _BAR_END - _BAR0
        )
        if self._pm is not None:
            places = places or self._overlaps(offset, end, self._pm + 4, 2)
        if places:
            # Before the device stops to respond: a memslot would fault.
            self._remove_unless_decoding(offset, data)
        try:
            if self._fixed.keys() & range(offset, end):
                for at in range(offset, end):
                    if at not in self._fixed:
                        self._config.region.write(at, data[at - offset : at - offset + 1])
            else:
                self._config.region.write(offset, data)
        except RegionError:
            return places
        if offset <= self._msix_control < end:
            self.interrupts.msix_control = data[self._msix_control - offset] & MSIX_CONTROL_BITS
            self.interrupts.update()
        elif (msi := self.interrupts.msi) and self._overlaps(
            offset, end, msi.at, MsiCapability.SIZE
        ):
            if offset <= msi.at + 2 < end:
                msi.enabled = bool(data[msi.at + 2 - offset] & MSI_ENABLE)
            self.interrupts.update()
        return places

    def wanted(self) -> Iterator[tuple[GuestBar, int]]:
        """Yield each BAR with its address in the BAR registers, if the function decodes memory."""
        if not self._config.memory_enabled or self._config.power_state:
            return
        for bar in self.bars:
            at = _BAR0 + 4 * bar.region.index
            gpa = self._config.read(at, 4) & _BAR_ADDRESS
            if bar.wide:
                gpa |= self._config.read(at + 4, 4) << 32
            yield bar, gpa

    def close(self) -> None:
        """Disable the interrupts, delete the memslots and unmap the BARs."""
        self._owned.close()

    def _msix_registers(self, bar: int) -> Iterator[tuple[Area, BusDevice]]:
        """Yield the emulated MSI-X table and pending bits that are in BAR number `bar`."""
        msix, table = self.device.msix, self.interrupts.table
        if not msix or not table:
            return
        if msix.table_bar == bar:
            yield msix.table, table
        if msix.pba_bar == bar:
            yield msix.pba, MsixPba(msix.vectors, self.interrupts.is_pending)

    @staticmethod
    def _overlaps(offset: int, end: int, start: int, size: int) -> bool:
        return offset < start + size and start < end

    def _remove_unless_decoding(self, offset: int, data: bytes) -> None:
        if offset <= _COMMAND < offset + len(data):
            if data[_COMMAND - offset] & _COMMAND_MEMORY:
                return
        elif not (self._pm is not None and offset <= self._pm + 4 < offset + len(data)):
            return
        for bar in self.bars:
            bar.remove()
