# SPDX-License-Identifier: GPL-2.0-only
"""A vfio region as the backing of its mapping: read and write, and whether it responds."""

from collections.abc import Iterable

from pyvmm.vfio.bars import BarMapping, map_bar
from pyvmm.vfio.config import ConfigSpace
from pyvmm.vfio.region_caps import Area
from pyvmm.vfio.regions import Region, RegionError
from pyvmm.vfio.vfio_device import VfioDevice

_D3HOT = 3


class RegionBacking:
    """A `pyvmm.memory.Backing` that is a vfio region; offsets are those of the mapping."""

    def __init__(self, region: Region, config: ConfigSpace, *, virtual: bool) -> None:
        """Read and write `region`; `config` is the config space of its device.

        `virtual` says that the device is a VF: it has no PCI_COMMAND_MEMORY (the kernel's
        no_command_memory), and vfio ignores the bit.
        """
        self.name = region.name
        self.is_ram = False
        self.read = region.read
        self.write = region.write
        self._config = config
        self._virtual = virtual

    def failure(self) -> str | None:
        """Return why the device does not respond, or None.

        Only config space is read: reading a device register may change it. The conditions are
        those of __vfio_pci_memory_enabled in drivers/vfio/pci/vfio_pci_config.c. Runtime power
        management (VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY) has the same effect and cannot be seen.
        """
        try:
            if not self._config.present:
                return "the device is no longer on the bus"
            if self._config.power_state == _D3HOT:
                return "the device is in power state D3hot"
            if not self._virtual and not self._config.memory_enabled:
                return "the device's memory space is disabled in its command register"
        except RegionError as error:
            return f"the device's config space cannot be read ({error})"
        return None


def map_backed(
    device: VfioDevice, region: Region, trap: Iterable[Area] = ()
) -> tuple[BarMapping, RegionBacking]:
    """Map a BAR, but not the areas in `trap`, with the region as the mapping's backing."""
    mapping = map_bar(region, device.split(region, trap=trap))
    backing = RegionBacking(region, device.config, virtual=device.function.is_virtual)
    mapping.memory.backing = backing
    return mapping, backing
