# SPDX-License-Identifier: GPL-2.0-only
"""The memslots of a VM: the host memory that backs guest physical addresses.

KVM has no ioctl that returns its memslots, so the set here is the only record of them. Each change
goes to the kernel first and is recorded once the kernel accepted it.
"""

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from pyvmm.errno_names import errno_name
from pyvmm.ioctl import IoctlError
from pyvmm.kvm.guest_memfd import GuestMemfd
from pyvmm.kvm.slot_index import SlotIndex
from pyvmm.kvm.vm_facts import file_name, vm_state
from pyvmm.kvm.vm_fd import VmFd
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
from pyvmm.why import Finding, Host, RegistrationFacts, Slot, most_likely, registration

_DEFAULT_IPA_BITS = 40  # KVM_PHYS_SHIFT, arch/arm64/include/asm/kvm_mmu.h
_IPA_SIZE_MASK = 0xFF  # KVM_VM_TYPE_ARM_IPA_SIZE_MASK


class MemslotError(IoctlError):
    """A memslot that KVM rejected.

    Attributes:
        finding: the finding on the condition that KVM tests first, or None if no condition fits.
        cause: the condition's name in `pyvmm.why.registration`, or "unknown".
        why: the reason in one sentence.
    """

    def __init__(self, error: IoctlError, facts: RegistrationFacts) -> None:
        """Add the reason to the error of the ioctl."""
        self.finding = most_likely(registration.CONDITIONS, facts)
        self.cause, why = _cause(self.finding, facts)
        super().__init__(error.errno, error.request, error.kind, error.argument, why)

    def __str__(self) -> str:
        """Return the line of `IoctlError`, and the command that describes the cause."""
        advice = f" (see pyvmm explain {self.cause})" if self.finding else ""
        return super().__str__() + advice


@dataclass(frozen=True)
class Memslot(Slot):
    """A registered memslot: `size` bytes of guest memory at `gpa`, backed by `memory` at `hva`.

    A slot with a `guest_memfd` takes its pages from that file, from its byte
    `guest_memfd_offset`.
    """

    guest_memfd: GuestMemfd | None = None
    memory: Mapping | None = None


class Memslots:
    """The memslots of one VM, ordered by GPA."""

    def __init__(self, vm: VmFd, host: Callable[[], Host]) -> None:
        """Start without a memslot. `host` is called when KVM rejects one."""
        self._vm = vm
        self._host = host
        self._slots: SlotIndex[Memslot] = SlotIndex()
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
        flags: int = 0,
        guest_memfd: GuestMemfd | None = None,
        guest_memfd_offset: int = 0,
    ) -> Memslot:
        """Register `size` bytes of guest memory at `gpa`, backed by `memory` from its byte `at`.

        ``KVM_SET_USER_MEMORY_REGION``, or ``KVM_SET_USER_MEMORY_REGION2`` with a guest_memfd.
        `size` defaults to the rest of the memory, `number` to the first free one. `flags` are
        further ``KVM_MEM_*``. The number of an existing slot changes that slot: KVM allows a new
        GPA and KVM_MEM_LOG_DIRTY_PAGES. The slot keeps `memory` alive. Raises `MemslotError` with
        the reason, and `ValueError` for a GPA that does not fit into 64 bits.
        """
        hva = memory.hva + at if memory else 0
        if size is None:
            whole = memory or guest_memfd
            size = whole.size - at if whole else 0
        flags |= KVM_MEM_READONLY if readonly else 0
        flags |= KVM_MEM_LOG_DIRTY_PAGES if log_dirty else 0
        flags |= KVM_MEM_GUEST_MEMFD if guest_memfd else 0
        number = self._free_number() if number is None else number
        slot = Memslot(number, gpa, size, hva, flags, guest_memfd, guest_memfd_offset, memory)
        self._set(slot)
        self._slots.add(slot)
        return slot

    def remove(self, slot: Memslot) -> None:
        """Delete a memslot: the guest's next access to its GPAs exits as MMIO.

        This method and the next ones raise `ValueError` for a slot that is not in the set: each
        change of a slot returns a new one that replaces it.
        """
        self._check(slot)
        self._set(replace(slot, size=0, flags=0, guest_memfd=None))
        self._slots.remove(slot.number)
        self._next = min(self._next, slot.number)

    def remove_backed_by(self, memory: Mapping) -> None:
        """Delete the memslots backed by `memory`; fault handling may have split them."""
        for slot in self:
            if slot.memory is memory:
                self.remove(slot)

    def move(self, slot: Memslot, gpa: int) -> Memslot:
        """Move a memslot to another GPA. Raises `MemslotError`."""
        with self._vm.paused():  # KVM has neither slot while it moves one (kvm_invalidate_memslot)
            return self._change(slot, replace(slot, gpa=gpa))

    def log_dirty(self, slot: Memslot, on: bool) -> Memslot:
        """Set or clear ``KVM_MEM_LOG_DIRTY_PAGES``. Raises `MemslotError`."""
        flags = slot.flags & ~KVM_MEM_LOG_DIRTY_PAGES
        return self._change(
            slot, replace(slot, flags=flags | (KVM_MEM_LOG_DIRTY_PAGES if on else 0))
        )

    def replace(self, slot: Memslot, memory: Mapping, *, at: int = 0) -> Memslot:
        """Back the same GPAs with `memory`, from its byte `at`.

        KVM cannot change the HVA of a slot: this deletes it and registers another, while the VM's
        vCPUs are paused. If KVM rejects the new memory, the old slot is registered again and
        `MemslotError` is raised.
        """
        new = replace(
            slot,
            hva=memory.hva + at,
            memory=memory,
            flags=slot.flags & ~KVM_MEM_GUEST_MEMFD,
            guest_memfd=None,
        )
        with self._vm.paused():
            self.remove(slot)
            try:
                self._set(new)
            except MemslotError:
                self._set(slot)
                self._slots.add(slot)
                raise
            self._slots.add(new)
        return new

    def cut(self, slot: Memslot, start: int, end: int) -> None:
        """Unregister a memslot's GPAs from `start` to `end` (exclusive); keep the rest.

        The rest becomes new slots; the VM's vCPUs are paused meanwhile.
        """
        with self._vm.paused():
            self.remove(slot)
            for first, last in ((slot.gpa, start), (end, slot.end)):
                if first < last:
                    assert slot.memory is not None
                    self.add(
                        first,
                        slot.memory,
                        at=slot.hva_of(first) - slot.memory.hva,
                        size=last - first,
                        readonly=slot.readonly,
                    )

    def numbered(self, number: int) -> Memslot | None:
        """Return slot `number`, or None."""
        return self._slots.numbered(number)

    def at(self, gpa: int) -> Memslot | None:
        """Return the slot that backs `gpa` outside SMM (address space 0), or None, in O(log n)."""
        return self._slots.at(gpa)

    def dirty_pages(self, slot: Memslot) -> list[int]:
        """Return the indices of the slot's pages written since the last call.

        ``KVM_GET_DIRTY_LOG``. With ``KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2`` enabled, pages stay dirty
        until `clear_dirty`. Raises `IoctlError`.
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
        """Log the next write to these pages (indices in the slot) again.

        ``KVM_CLEAR_DIRTY_LOG``. Raises `IoctlError`.
        """
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
        """Return the number of slots this VM can have (``KVM_CAP_NR_MEMSLOTS``)."""
        return self._vm.check(KVM_CAP_NR_MEMSLOTS)

    def forget(self) -> None:
        """Drop the record of a closed VM, and the references to the slots' memory."""
        self._slots.clear()
        self._next = 0

    def __iter__(self) -> Iterator[Memslot]:
        """Iterate over the slots in the order of their GPAs, address space by address space."""
        return iter(self._slots)

    def __len__(self) -> int:
        """Return the number of slots."""
        return len(self._slots)

    def _change(self, old: Memslot, new: Memslot) -> Memslot:
        self._check(old)
        self._set(new)
        self._slots.add(new)
        return new

    def _check(self, slot: Memslot) -> None:
        if self._slots.numbered(slot.number) is not slot:
            raise ValueError(f"slot {slot.number} at GPA {slot.gpa:#x} is not in the set")

    def _free_number(self) -> int:
        while self._slots.numbered(self._next):
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
                # Every kernel has the older ioctl.
                plain = kvm_userspace_memory_region.from_buffer_copy(region)
                self._vm.ioctl(KVM_SET_USER_MEMORY_REGION, plain)
        except IoctlError as error:
            raise MemslotError(error, self._facts(slot, error.errno)) from None

    def _facts(self, slot: Memslot, number: int) -> RegistrationFacts:
        return RegistrationFacts(
            errno=number,
            host=self._host(),
            slot=slot,
            vm=self._vm,
            known_slots=tuple(self._slots),
            known_ipa_bits=ipa_bits(self._vm.vm_type),
            known_enabled=self._vm.enabled,
            known_memfd_file=file_name(slot.guest_memfd.fileno()) if slot.guest_memfd else None,
            known_protected=self._vm.protected,
            read_vm_state=partial(vm_state, self._vm),
            pid="self",
        )


def ipa_bits(vm_type: int) -> int:
    """Return the width of the IPA space of an arm64 VM of this ``KVM_CREATE_VM`` machine type."""
    return vm_type & _IPA_SIZE_MASK or _DEFAULT_IPA_BITS


def reason(facts: RegistrationFacts) -> tuple[str, str]:
    """Return the cause of a rejection and a sentence; "unknown" if no condition fits."""
    return _cause(most_likely(registration.CONDITIONS, facts), facts)


def _cause(finding: Finding | None, facts: RegistrationFacts) -> tuple[str, str]:
    if finding:
        return finding.name, finding.why
    return "unknown", f"no condition that pyvmm knows fits {errno_name(facts.errno)}"


def _bitmap(slot: Memslot) -> "ctypes.Array[ctypes.c_uint64]":
    """Return a zeroed dirty bitmap: one bit per page, in whole 64-bit words."""
    return (ctypes.c_uint64 * -(-slot.size // (PAGE_SIZE * 64)))()
