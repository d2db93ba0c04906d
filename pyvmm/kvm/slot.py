# SPDX-License-Identifier: GPL-2.0-only
"""What every memslot has, whoever registered it: this VMM, or another that is watched."""

from dataclasses import dataclass

from pyvmm.uapi.kvm import KVM_MEM_READONLY


@dataclass(frozen=True)
class Slot:
    """`size` bytes of guest memory from `gpa`, backed by host memory from `hva`."""

    number: int
    gpa: int
    size: int
    hva: int
    flags: int = 0

    @property
    def end(self) -> int:
        """The first GPA after the slot."""
        return self.gpa + self.size

    @property
    def readonly(self) -> bool:
        """Do guest writes exit as MMIO?"""
        return bool(self.flags & KVM_MEM_READONLY)

    def hva_of(self, gpa: int) -> int:
        """The host address behind a GPA of this slot."""
        return self.hva + (gpa - self.gpa)
