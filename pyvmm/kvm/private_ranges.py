# SPDX-License-Identifier: GPL-2.0-only
"""The private memory of a VM, as ``KVM_SET_MEMORY_ATTRIBUTES`` made it: KVM has no ioctl to ask."""

from pyvmm.uapi.kvm import KVM_MEMORY_ATTRIBUTE_PRIVATE


class PrivateRanges:
    """The GPA ranges with KVM_MEMORY_ATTRIBUTE_PRIVATE. A VM starts without any."""

    def __init__(self) -> None:
        """Start without private memory."""
        self._ranges: list[tuple[int, int]] = []  # disjoint, from GPA to GPA (exclusive)

    def set(self, gpa: int, size: int, attributes: int) -> None:
        """Record the attributes of `size` bytes at `gpa`."""
        start, end = gpa, gpa + size
        kept = []
        for first, last in self._ranges:
            if last < start or end < first:
                kept.append((first, last))
            elif attributes & KVM_MEMORY_ATTRIBUTE_PRIVATE:
                start, end = min(first, start), max(last, end)
            else:
                kept += [(a, b) for a, b in ((first, start), (end, last)) if a < b]
        if attributes & KVM_MEMORY_ATTRIBUTE_PRIVATE:
            kept.append((start, end))
        self._ranges = kept

    def __contains__(self, gpa: int) -> bool:
        """Return True if the byte at `gpa` is private."""
        return any(first <= gpa < last for first, last in self._ranges)
