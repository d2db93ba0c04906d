# SPDX-License-Identifier: GPL-2.0-only
"""An emulated device that counts the accesses that reach the VMM."""

from collections import Counter

from pyvmm.bus import BusDevice

# The number of accesses by device and kind, "read" or "write".
AccessCounts = Counter[tuple[str, str]]


class CountedDevice:
    """A device with another one's registers."""

    def __init__(self, device: BusDevice, name: str, counts: AccessCounts) -> None:
        """Count accesses to `device` in `counts`, as `name`."""
        self._device, self._counts = device, counts
        self._read, self._write = (name, "read"), (name, "write")

    def read(self, offset: int, size: int) -> int:
        """Read from the device."""
        self._counts[self._read] += 1
        return self._device.read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write to the device."""
        self._counts[self._write] += 1
        self._device.write(offset, size, value)
