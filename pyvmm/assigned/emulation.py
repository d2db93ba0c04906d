# SPDX-License-Identifier: GPL-2.0-only
"""Guest accesses to a region, answered by the VMM through the region's own read and write."""

from pyvmm.vfio.regions import Region, RegionError


class EmulatedArea:
    """A device on the bus: `region` from its byte `offset` on.

    What the hardware does not answer reads as all ones and swallows writes, as on PCI; `failures`
    counts those. The guest chooses what it accesses, so that is no error of the VMM's.
    """

    def __init__(self, region: Region, offset: int) -> None:
        self._region = region
        self._offset = offset
        self.failures = 0

    def read(self, offset: int, size: int) -> int:
        """Read `size` bytes of the region."""
        try:
            return int.from_bytes(self._region.read(self._offset + offset, size), "little")
        except RegionError:
            self.failures += 1
            return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Write `size` bytes of the region."""
        try:
            self._region.write(self._offset + offset, value.to_bytes(size, "little"))
        except RegionError:
            self.failures += 1
