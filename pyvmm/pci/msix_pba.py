# SPDX-License-Identifier: GPL-2.0-only
"""The pending bit array of a function's MSI-X (PCI 3.0, 6.8.2.8).

The device never masks a vector, since vfio does not, so the device's own array is always zero. And
an access of another size than its registers have may abort in the host kernel, which panics.
"""

from collections.abc import Callable


class MsixPba:
    """A read-only array with one bit per vector."""

    def __init__(self, vectors: int, pending: Callable[[int], bool]) -> None:
        """Call `pending` with the number of a vector when the guest reads its bit."""
        self._vectors = vectors
        self._pending = pending

    def read(self, offset: int, size: int) -> int:
        """Read the bits of `size` bytes from byte `offset`."""
        bits = range(8 * offset, min(8 * (offset + size), self._vectors))
        return sum(1 << vector - bits.start for vector in bits if self._pending(vector))

    def write(self, offset: int, size: int, value: int) -> None:
        """Do nothing."""
