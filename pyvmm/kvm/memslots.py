# SPDX-License-Identifier: GPL-2.0-only
"""Memslots: which host memory backs which guest physical addresses, as a managed set.

The kernel cannot be asked for its memslots, so the set here is the one record of them. Every
change goes to the kernel first and is recorded only when the kernel took it.
"""

import ctypes
from bisect import bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING

from pyvmm.ioctl import IoctlError
from pyvmm.kvm import rejection
from pyvmm.kvm.guest_memfd import GuestMemfd
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.uapi.kvm import (
    KVM_CAP_NR_MEMSLOTS,
    KVM_CLEAR_DIRTY_LOG,
    KVM_GET_DIRTY_LOG,
    KVM_MEM_GUEST_MEMFD,
    KVM_MEM_LOG_DIRTY_PAGES,
    KVM_MEM_READONLY,
    KVM_SET_USER_MEMORY_REGION,
    KVM_SET_USER_MEMORY_REGION2,
    kvm_clear_dirty_log,
    kvm_dirty_log,
    kvm_userspace_memory_region,
    kvm_userspace_memory_region2,
)

if TYPE_CHECKING:
    from pyvmm.kvm.vm import Vm

_gpa = attrgetter("gpa")


class MemslotError(IoctlError):
    """The kernel rejected a memslot.

    `cause` is a name to script against (see `rejection`), `why` the sentence for a person.
    """

    def __init__(self, error: IoctlError, cause: str, why: str) -> None:
        super().__init__(error.errno, error.request, error.kind, error.argument, why)
        self.cause = cause


@dataclass(frozen=True)
class Memslot:
    """`size` bytes of guest memory from `gpa`, backed by host memory from `hva`.

    A slot with a `guest_memfd` takes its pages from that file, from `guest_memfd_offset`.
    """

    number: int
    gpa: int
    size: int
    hva: int
    flags: int = 0
    memory: Mapping | None = None
    guest_memfd: GuestMemfd | None = None
    guest_memfd_offset: int = 0

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


class Memslots:
    """The memslots of one VM, ordered by GPA."""

    def __init__(self, vm: "Vm") -> None:
        self._vm = vm
        self._slots: list[Memslot] = []  # by GPA
        self._numbers: set[int] = set()
        self._next = 0

    def add(
        self,
        gpa: int,
        memory: Mapping | None,
        *,
        at: int = 0,
        size: int | None = None,
        number: int | None = None,
        readonly: bool = False,
        log_dirty: bool = False,
        guest_memfd: GuestMemfd | None = None,
        guest_memfd_offset: int = 0,
    ) -> Memslot:
        """Back `size` bytes of guest memory from `gpa` with `memory` from its byte `at`.

        `size` is by default all that is left of the memory; `number` the first that is free.
        The slot keeps `memory` alive. Raises `MemslotError`, which names the rule that the
        request broke.
        """
        hva = memory.hva + at if memory else 0
        if size is None:
            whole = memory or guest_memfd
            size = whole.size - at if whole else 0
        flags = KVM_MEM_READONLY if readonly else 0
        flags |= KVM_MEM_LOG_DIRTY_PAGES if log_dirty else 0
        flags |= KVM_MEM_GUEST_MEMFD if guest_memfd else 0
        number = self._free_number() if number is None else number
        slot = Memslot(number, gpa, size, hva, flags, memory, guest_memfd, guest_memfd_offset)
        self._set(slot)
        insort(self._slots, slot, key=_gpa)
        self._numbers.add(number)
        return slot

    def remove(self, slot: Memslot) -> None:
        """Take the memory away from the guest: its next access there exits as MMIO."""
        self._set(replace(slot, size=0, flags=0, guest_memfd=None))
        self._forget(slot)

    def move(self, slot: Memslot, gpa: int) -> Memslot:
        """Show the same memory at another GPA."""
        return self._change(slot, replace(slot, gpa=gpa))

    def log_dirty(self, slot: Memslot, on: bool) -> Memslot:
        """Begin or end logging which pages the guest writes."""
        flags = slot.flags & ~KVM_MEM_LOG_DIRTY_PAGES
        return self._change(
            slot, replace(slot, flags=flags | (KVM_MEM_LOG_DIRTY_PAGES if on else 0))
        )

    def replace(self, slot: Memslot, memory: Mapping, *, at: int = 0) -> Memslot:
        """Back the same GPAs with other memory.

        The kernel has no such request: the slot goes and comes back, and a vCPU that touches it
        in between takes an MMIO exit.
        """
        self.remove(slot)
        return self.add(
            slot.gpa,
            memory,
            at=at,
            size=slot.size,
            number=slot.number,
            readonly=slot.readonly,
            log_dirty=bool(slot.flags & KVM_MEM_LOG_DIRTY_PAGES),
        )

    def at(self, gpa: int) -> Memslot | None:
        """The slot that backs `gpa`, found in O(log n)."""
        index = bisect_right(self._slots, gpa, key=_gpa)
        if index and gpa < self._slots[index - 1].end:
            return self._slots[index - 1]
        return None

    def dirty_pages(self, slot: Memslot) -> list[int]:
        """``KVM_GET_DIRTY_LOG``: page indices in the slot written since the last call.

        Under ``KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2`` they stay dirty until `clear_dirty`.
        """
        bitmap = _bitmap(slot)
        log = kvm_dirty_log(slot=slot.number, dirty_bitmap=ctypes.addressof(bitmap))
        self._vm.ioctl(KVM_GET_DIRTY_LOG, log)
        return [
            word * 64 + bit
            for word, bits in enumerate(bitmap)
            if bits
            for bit in range(64)
            if bits >> bit & 1
        ]

    def clear_dirty(self, slot: Memslot, pages: list[int]) -> None:
        """``KVM_CLEAR_DIRTY_LOG``: log the next write to these pages (indices) again."""
        bitmap = _bitmap(slot)
        for page in pages:
            bitmap[page // 64] |= 1 << page % 64
        self._vm.ioctl(
            KVM_CLEAR_DIRTY_LOG,
            kvm_clear_dirty_log(
                slot=slot.number,
                num_pages=slot.size // PAGE_SIZE,
                dirty_bitmap=ctypes.addressof(bitmap),
            ),
        )

    def limit(self) -> int:
        """How many slots this VM can have (``KVM_CAP_NR_MEMSLOTS``)."""
        return self._vm.check(KVM_CAP_NR_MEMSLOTS)

    def forget(self) -> None:
        """Drop the record, and with it the memory that the slots kept alive; the VM is gone."""
        self._slots.clear()
        self._numbers.clear()
        self._next = 0

    def __iter__(self) -> Iterator[Memslot]:
        """Every slot, by GPA."""
        return iter(tuple(self._slots))

    def __len__(self) -> int:
        return len(self._slots)

    def _change(self, old: Memslot, new: Memslot) -> Memslot:
        self._set(new)
        self._forget(old)
        insort(self._slots, new, key=_gpa)
        self._numbers.add(new.number)
        return new

    def _forget(self, slot: Memslot) -> None:
        index = bisect_right(self._slots, slot.gpa, key=_gpa) - 1
        assert self._slots[index].number == slot.number
        del self._slots[index]
        self._numbers.discard(slot.number)
        self._next = min(self._next, slot.number)

    def _free_number(self) -> int:
        while self._next in self._numbers:
            self._next += 1
        return self._next

    def _set(self, slot: Memslot) -> None:
        region = kvm_userspace_memory_region2(
            slot=slot.number,
            flags=slot.flags,
            guest_phys_addr=slot.gpa,
            memory_size=slot.size,
            userspace_addr=slot.hva,
        )
        try:
            if slot.guest_memfd:
                region.guest_memfd = slot.guest_memfd.fileno()
                region.guest_memfd_offset = slot.guest_memfd_offset
                self._vm.ioctl(KVM_SET_USER_MEMORY_REGION2, region)
            else:
                # The older request says all there is to say, and every kernel has it.
                plain = kvm_userspace_memory_region.from_buffer_copy(region)
                self._vm.ioctl(KVM_SET_USER_MEMORY_REGION, plain)
        except IoctlError as error:
            cause, why = rejection.explain(self._vm, region, error.errno)
            raise MemslotError(error, cause, why) from None


def _bitmap(slot: Memslot) -> "ctypes.Array[ctypes.c_uint64]":
    """One bit a page, in whole 64-bit words, as the kernel wants it."""
    return (ctypes.c_uint64 * -(-slot.size // (PAGE_SIZE * 64)))()
