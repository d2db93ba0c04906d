# SPDX-License-Identifier: GPL-2.0-only
"""A region as what is behind a mapping of it: read, written, and asked whether it is there."""

from pyvmm.vfio.config import ConfigSpace
from pyvmm.vfio.regions import Region, RegionError


class RegionBacking:
    """`pyvmm.memory.mapping.Backing`: a vfio region, whose offsets are those of its mapping."""

    def __init__(self, region: Region, config: ConfigSpace) -> None:
        self.name = region.name
        self.read = region.read
        self.write = region.write
        self._config = config

    def failure(self) -> str | None:
        """Told by the config space, so that no register of the device's is read."""
        try:
            if not self._config.present:
                return "the device has gone from the bus"
            if not self._config.memory_enabled:
                return "the device's memory space is switched off in its command register"
        except RegionError as error:
            return f"the device cannot be asked ({error})"
        return None
