# SPDX-License-Identifier: GPL-2.0-only
"""A vfio region as the backing of its mapping: read and write, and whether it responds."""

from pyvmm.vfio.config import ConfigSpace
from pyvmm.vfio.regions import Region, RegionError


class RegionBacking:
    """A `pyvmm.memory.Backing` that is a vfio region; offsets are those of the mapping."""

    def __init__(self, region: Region, config: ConfigSpace) -> None:
        """Read and write `region`; `config` is the config space of its device."""
        self.name = region.name
        self.read = region.read
        self.write = region.write
        self._config = config

    def failure(self) -> str | None:
        """Return why the device does not respond, or None.

        Only config space is read: reading a device register may change it.
        """
        try:
            if not self._config.present:
                return "the device is no longer on the bus"
            if not self._config.memory_enabled:
                return "the device's memory space is disabled in its command register"
        except RegionError as error:
            return f"the device's config space cannot be read ({error})"
        return None
