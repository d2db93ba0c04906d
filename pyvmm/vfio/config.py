# SPDX-License-Identifier: GPL-2.0-only
"""PCI config space through vfio's config region, with the registers that vfio virtualizes."""

from collections.abc import Iterator
from dataclasses import dataclass

from pyvmm.errors import SkippedError
from pyvmm.vfio.region_caps import Area
from pyvmm.vfio.regions import Region

# linux/pci_regs.h
_VENDOR = 0x00
_NO_VENDOR = 0xFFFF
_COMMAND = 0x04
_COMMAND_MEMORY = 1 << 1
_COMMAND_MASTER = 1 << 2
_STATUS = 0x06
_STATUS_CAP_LIST = 1 << 4
_BAR0 = 0x10
_BAR_PORT_SPACE = 1 << 0
_CAPABILITY_LIST = 0x34
_CAP_ID_PM = 0x01
_PM_CTRL = 4
_PM_CTRL_STATE = 3
_CAP_ID_MSIX = 0x11
_MSIX_FLAGS_QSIZE = 0x7FF
_MSIX_ENTRY_SIZE = 16
_FIRST_CAPABILITY = 0x40
_END = 0x100


@dataclass(frozen=True)
class Msix:
    """The MSI-X capability: `vectors` vectors, with table and PBA in the given BARs.

    The table has 16 bytes per vector: message address, data and mask. The PBA has a pending bit
    per vector, in whole 64-bit words.
    """

    vectors: int
    table_bar: int
    table: Area
    pba_bar: int
    pba: Area


class ConfigSpace:
    """The config space of a function. Accesses raise `RegionError`."""

    def __init__(self, region: Region) -> None:
        """Access config space through `region`, the device's ``CONFIG``."""
        self.region = region

    def read(self, offset: int, size: int) -> int:
        """Read the little-endian register of `size` bytes (1, 2 or 4) at byte `offset`."""
        return int.from_bytes(self.region.read(offset, size), "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Write the little-endian register of `size` bytes (1, 2 or 4) at byte `offset`."""
        self.region.write(offset, value.to_bytes(size, "little"))

    def is_port_bar(self, bar: int) -> bool:
        """Return True if BAR number `bar` is IO port space, False if it is memory."""
        return bool(self.read(_BAR0 + 4 * bar, 4) & _BAR_PORT_SPACE)

    @property
    def present(self) -> bool:
        """Return True if the function responds. The vendor ID of a removed one reads 0xffff."""
        return self.read(_VENDOR, 2) != _NO_VENDOR

    @property
    def memory_enabled(self) -> bool:
        """Return True if the command register enables memory space (PCI_COMMAND_MEMORY).

        Otherwise reads and writes of memory BARs fail with EIO, and an access through a mapping
        is a SIGBUS.
        """
        return bool(self.read(_COMMAND, 2) & _COMMAND_MEMORY)

    @property
    def power_state(self) -> int:
        """Return the power state: 0 for D0 to 3 for D3hot (PCI_PM_CTRL_STATE_MASK).

        In D3hot, accesses to memory BARs fail as without PCI_COMMAND_MEMORY.
        """
        at = dict(self.capabilities()).get(_CAP_ID_PM)
        return 0 if at is None else self.read(at + _PM_CTRL, 2) & _PM_CTRL_STATE

    def set_power_state(self, state: int) -> None:
        """Set the power state: 0 for D0 to 3 for D3hot. Raises `SkippedError` if it has none."""
        at = dict(self.capabilities()).get(_CAP_ID_PM)
        if at is None:
            raise SkippedError("the device has no power management capability (PCI_CAP_ID_PM)")
        control = self.read(at + _PM_CTRL, 2)
        self.write(at + _PM_CTRL, 2, control & ~_PM_CTRL_STATE | state)

    def enable_memory(self, on: bool = True) -> None:
        """Set or clear PCI_COMMAND_MEMORY: the device decodes accesses to its memory BARs."""
        self._command(_COMMAND_MEMORY, on)

    def enable_bus_master(self, on: bool = True) -> None:
        """Set or clear PCI_COMMAND_MASTER: the device may do DMA and send MSIs."""
        self._command(_COMMAND_MASTER, on)

    def capabilities(self) -> Iterator[tuple[int, int]]:
        """Yield ID and offset of each capability. A list that loops ends at the loop."""
        if not self.read(_STATUS, 2) & _STATUS_CAP_LIST:
            return
        at, offsets = self.read(_CAPABILITY_LIST, 1) & ~3, set[int]()
        while _FIRST_CAPABILITY <= at < _END and at not in offsets:
            offsets.add(at)
            yield self.read(at, 1), at
            at = self.read(at + 1, 1) & ~3

    def msix(self) -> Msix | None:
        """Return the MSI-X capability, or None."""
        at = dict(self.capabilities()).get(_CAP_ID_MSIX)
        if at is None:
            return None
        vectors = (self.read(at + 2, 2) & _MSIX_FLAGS_QSIZE) + 1
        table, pba = self.read(at + 4, 4), self.read(at + 8, 4)
        return Msix(
            vectors,
            table_bar=table & 7,
            table=Area(table & ~7, vectors * _MSIX_ENTRY_SIZE),
            pba_bar=pba & 7,
            pba=Area(pba & ~7, (vectors + 63) // 64 * 8),
        )

    def _command(self, bit: int, on: bool) -> None:
        command = self.read(_COMMAND, 2)
        self.write(_COMMAND, 2, command | bit if on else command & ~bit)
