# SPDX-License-Identifier: GPL-2.0-only
"""A memslot as a fact, and a fact that is absent. Addresses and sizes are in bytes."""

from dataclasses import dataclass
from typing import Protocol, TypeVar

from pyvmm.uapi.kvm import KVM_MEM_READONLY

T = TypeVar("T")


class Absent(Exception):
    """A fact that nobody provided; the text names the fact."""


def need(fact: T | None, name: str) -> T:
    """Return a fact. Raises `Absent` with its name where it is None."""
    if fact is None:
        raise Absent(name)
    return fact


class Memfd(Protocol):
    """A guest_memfd: its size in bytes, its ``GUEST_MEMFD_FLAG_*``, and the VM that owns it."""

    @property
    def size(self) -> int:
        """Return the size in bytes."""

    @property
    def flags(self) -> int:
        """Return the ``GUEST_MEMFD_FLAG_*`` it was created with."""

    @property
    def owner(self) -> object:
        """Return the VM whose fd created it."""

    @property
    def closed(self) -> bool:
        """Return True if the VMM closed its descriptor."""


class UndescribedMemfd:
    """A guest_memfd of which only the descriptor's number is known."""

    def __eq__(self, other: object) -> bool:
        """Raise `Absent`."""
        raise Absent("which file the guest_memfd descriptor refers to")

    __hash__ = None  # type: ignore[assignment]

    @property
    def size(self) -> int:
        """Raise `Absent`."""
        raise Absent("the guest_memfd's size")

    @property
    def flags(self) -> int:
        """Raise `Absent`."""
        raise Absent("the flags of KVM_CREATE_GUEST_MEMFD")

    @property
    def owner(self) -> object:
        """Raise `Absent`."""
        raise Absent("the VM that created the guest_memfd")

    @property
    def closed(self) -> bool:
        """Raise `Absent`."""
        raise Absent("whether the guest_memfd was closed")


@dataclass(frozen=True)
class Slot:
    """A memslot: `size` bytes of guest memory at `gpa`, backed by host memory at `hva`.

    The members of ``struct kvm_userspace_memory_region2``; `guest_memfd` provides the pages from
    its byte `guest_memfd_offset`.
    """

    number: int
    gpa: int
    size: int
    hva: int
    flags: int = 0
    guest_memfd: Memfd | None = None
    guest_memfd_offset: int = 0

    @property
    def end(self) -> int:
        """Return the first GPA after the slot."""
        return self.gpa + self.size

    @property
    def address_space(self) -> int:
        """Return the address space: 0, or on x86 1 for the memory of a vCPU in SMM."""
        return self.number >> 16

    @property
    def readonly(self) -> bool:
        """Return True if guest writes exit as MMIO (``KVM_MEM_READONLY``)."""
        return bool(self.flags & KVM_MEM_READONLY)

    def hva_of(self, gpa: int) -> int:
        """Return the HVA that backs `gpa`."""
        return self.hva + (gpa - self.gpa)

    def overlaps_hva(self, hva: int, size: int) -> bool:
        """Return True if `size` bytes at `hva` back part of the slot."""
        return self.hva < hva + size and hva < self.hva + self.size
