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
from pyvmm.kvm.slot import Slot
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
class Memslot(Slot):
    """`size` bytes of guest memory from `gpa`, backed by host memory from `hva`.

    A slot with a `guest_memfd` takes its pages from that file, from `guest_memfd_offset`.
    """

    memory: Mapping | None = None
    guest_memfd: GuestMemfd | None = None
    guest_memfd_offset: int = 0


class Memslots:
    """The memslots of one VM, ordered by GPA."""

    def __init__(self, vm: "Vm") -> None:
        self._vm = vm
        self._slots: list[Memslot] = []  # by GPA
        self._numbered: dict[int, Memslot] = {}
        self._next = 0  # no number below it is free

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
        A number that a slot has already changes that slot, as far as the kernel allows.
        The slot keeps `memory` alive. Raises `MemslotError`, which names the rule that the
        request broke, and `ValueError` for a GPA that does not fit into 64 bits.
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
        self._record(slot)
        return slot

    def remove(self, slot: Memslot) -> None:
        """Take the memory away from the guest: its next access there exits as MMIO.

        This and all that follows raises `ValueError` for a slot that is not, or no longer, in
        the set: each change of a slot gives a new one in its place.
        """
        self._check(slot)
        self._set(replace(slot, size=0, flags=0, guest_memfd=None))
        self._forget(slot)

    def move(self, slot: Memslot, gpa: int) -> Memslot:
        """Show the same memory at another GPA. Raises `MemslotError`."""
        return self._change(slot, replace(slot, gpa=gpa))

    def log_dirty(self, slot: Memslot, on: bool) -> Memslot:
        """Begin or end logging which pages the guest writes. Raises `MemslotError`."""
        flags = slot.flags & ~KVM_MEM_LOG_DIRTY_PAGES
        return self._change(
            slot, replace(slot, flags=flags | (KVM_MEM_LOG_DIRTY_PAGES if on else 0))
        )

    def replace(self, slot: Memslot, memory: Mapping, *, at: int = 0) -> Memslot:
        """Back the same GPAs with other memory.

        The kernel has no such request: the slot goes and comes back, and a vCPU that touches it
        in between takes an MMIO exit. Where the kernel rejects the new memory, the old comes
        back, and `MemslotError` is raised.
        """
        new = replace(
            slot,
            hva=memory.hva + at,
            memory=memory,
            flags=slot.flags & ~KVM_MEM_GUEST_MEMFD,
            guest_memfd=None,
        )
        self.remove(slot)
        try:
            self._set(new)
        except MemslotError:
            self._set(slot)
            self._record(slot)
            raise
        self._record(new)
        return new

    def numbered(self, number: int) -> Memslot | None:
        """The slot of that number."""
        return self._numbered.get(number)

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
        self._numbered.clear()
        self._next = 0

    def __iter__(self) -> Iterator[Memslot]:
        """Every slot, by GPA."""
        return iter(tuple(self._slots))

    def __len__(self) -> int:
        return len(self._slots)

    def _change(self, old: Memslot, new: Memslot) -> Memslot:
        self._check(old)
        self._set(new)
        self._record(new)
        return new

    def _check(self, slot: Memslot) -> None:
        if self._numbered.get(slot.number) is not slot:
            raise ValueError(f"slot {slot.number} at GPA {slot.gpa:#x} is not in the set")

    def _record(self, slot: Memslot) -> None:
        if old := self._numbered.get(slot.number):
            self._forget(old)
        insort(self._slots, slot, key=_gpa)
        self._numbered[slot.number] = slot

    def _forget(self, slot: Memslot) -> None:
        # No two slots begin at one GPA: the kernel lets none overlap.
        del self._slots[bisect_right(self._slots, slot.gpa, key=_gpa) - 1]
        del self._numbered[slot.number]
        self._next = min(self._next, slot.number)

    def _free_number(self) -> int:
        while self._next in self._numbered:
            self._next += 1
        return self._next

    def _set(self, slot: Memslot) -> None:
        if slot.gpa >> 64:
            raise ValueError(f"GPA {slot.gpa:#x} does not fit into 64 bits")
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
            cause, why = rejection.explain(self._vm, slot, error.errno)
            raise MemslotError(error, cause, why) from None


def _bitmap(slot: Memslot) -> "ctypes.Array[ctypes.c_uint64]":
    """One bit a page, in whole 64-bit words, as the kernel wants it."""
    return (ctypes.c_uint64 * -(-slot.size // (PAGE_SIZE * 64)))()
