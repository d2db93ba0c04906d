# SPDX-License-Identifier: GPL-2.0-only
from pyvmm.pci.counted_device import AccessCounts, CountedDevice


class Register:
    """A register of 32 bits."""

    value = 0

    def read(self, offset: int, size: int) -> int:
        return self.value

    def write(self, offset: int, size: int, value: int) -> None:
        self.value = value


def test_accesses_are_counted_and_passed_on() -> None:
    counts = AccessCounts()
    device = CountedDevice(Register(), "a register", counts)
    device.write(0, 4, 7)
    assert (device.read(0, 4), device.read(0, 4)) == (7, 7)
    assert counts == {("a register", "read"): 2, ("a register", "write"): 1}
