# SPDX-License-Identifier: GPL-2.0-only
"""Why the kernel rejected a memslot.

``KVM_SET_USER_MEMORY_REGION`` answers almost everything with EINVAL. The kernel's own conditions
are few, and all but one can be checked from user space: so each is checked in turn, in the
kernel's order (kvm_vm_ioctl_set_memory_region and kvm_set_memory_region in virt/kvm/kvm_main.c,
kvm_gmem_bind in virt/kvm/guest_memfd.c, then the architecture's kvm_arch_prepare_memory_region).
The one that no one can check, a VMA's cacheability, is what remains for a PFNMAP VMA that breaks
no other rule.
"""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from pyvmm.errno_names import errno_name
from pyvmm.ioctl import IoctlError
from pyvmm.kvm.gpa_width import gpa_bits
from pyvmm.kvm.registry import Registry, Slot
from pyvmm.memory import PAGE_SIZE, access_ok
from pyvmm.memory.vma import Vma, vmas
from pyvmm.uapi.kvm import (
    GUEST_MEMFD_FLAG_MMAP,
    KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED,
    KVM_CAP_ARM_MTE,
    KVM_CAP_ARM_VM_IPA_SIZE,
    KVM_CAP_MULTI_ADDRESS_SPACE,
    KVM_CAP_NR_MEMSLOTS,
    KVM_CAP_READONLY_MEM,
    KVM_MEM_LOG_DIRTY_PAGES,
    KVM_MEM_READONLY,
)

CACHEABLE_PFNMAP = "cacheable-pfnmap-unsupported"

_MAX_PAGES = (1 << 31) - 1  # KVM_MEM_MAX_NR_PAGES, include/linux/kvm_host.h
_DEFAULT_IPA_BITS = 40  # KVM_PHYS_SHIFT, arch/arm64/include/asm/kvm_mmu.h


@dataclass(frozen=True)
class Request:
    """A rejected request, with what its VM and its process can tell about it."""

    vm: Registry
    new: Slot
    pid: int | str

    @cached_property
    def old(self) -> Slot | None:
        """The slot that already has this number."""
        return self.vm.memslots.numbered(self.new.number)

    @cached_property
    def vmas(self) -> list[Vma]:
        """The areas under the request's HVA range."""
        return vmas(self.new.hva, self.new.size, self.pid)

    def offers(self, capability: int) -> int:
        """What the VM answers to a capability; 0 where it does not know it."""
        try:
            return self.vm.check(capability)
        except IoctlError:
            return 0

    @property
    def on_arm64(self) -> bool:
        """Do arm64's rules hold? Only arm64 has an IPA size to choose."""
        return bool(self.offers(KVM_CAP_ARM_VM_IPA_SIZE))


def explain(vm: Registry, slot: Slot, number: int, pid: int | str = "self") -> tuple[str, str]:
    """The first rule that `slot` breaks, as (cause, why).

    `number` is the kernel's errno, and `pid` the process whose VM it is.
    """
    request = Request(vm, slot, pid)
    for cause, code, rule in RULES:
        if code == number and (why := next(rule(request), None)):
            return cause, why
    return "unknown", f"it breaks no rule that pyvmm knows of, and got {errno_name(number)}"


Rule = Callable[[Request], Iterator[str]]


def _slot_number(r: Request) -> Iterator[str]:
    limit = r.offers(KVM_CAP_NR_MEMSLOTS)
    if r.new.number & 0xFFFF >= limit:
        yield f"slot {r.new.number} is beyond this VM's limit: number slots from 0 to {limit - 1}"


def _flags(r: Request) -> Iterator[str]:
    if r.new.guest_memfd and r.new.readonly:
        yield "a guest_memfd slot cannot be read-only: a write there could not exit as MMIO"
    if r.new.guest_memfd and r.new.flags & KVM_MEM_LOG_DIRTY_PAGES:
        yield "the dirty pages of a guest_memfd slot cannot be logged"
    if r.new.readonly and not r.offers(KVM_CAP_READONLY_MEM):
        yield "this VM has no read-only slots (KVM_CAP_READONLY_MEM is 0)"


def _size_unaligned(r: Request) -> Iterator[str]:
    if r.new.size % PAGE_SIZE:
        yield f"size {r.new.size:#x} is not a multiple of the page size {PAGE_SIZE:#x}"


def _gpa_unaligned(r: Request) -> Iterator[str]:
    if r.new.gpa % PAGE_SIZE:
        yield f"GPA {r.new.gpa:#x} is not a multiple of the page size {PAGE_SIZE:#x}"


def _hva_unaligned(r: Request) -> Iterator[str]:
    if r.new.hva % PAGE_SIZE:
        yield f"HVA {r.new.hva:#x} is not a multiple of the page size {PAGE_SIZE:#x}"


def _hva_outside_user_space(r: Request) -> Iterator[str]:
    if not access_ok(r.new.hva, r.new.size):
        yield f"HVA {r.new.hva:#x} is tagged, or the slot ends beyond this process's addresses"


def _guest_memfd_offset(r: Request) -> Iterator[str]:
    offset = r.new.guest_memfd_offset
    if r.new.guest_memfd and offset % PAGE_SIZE:
        yield f"guest_memfd offset {offset:#x} is not a multiple of the page size {PAGE_SIZE:#x}"


def _address_space(r: Request) -> Iterator[str]:
    space, count = r.new.number >> 16, r.offers(KVM_CAP_MULTI_ADDRESS_SPACE) or 1
    if space >= count:
        yield f"slot {r.new.number:#x} is in address space {space}, and this VM has {count}"


def _gpa_wraps(r: Request) -> Iterator[str]:
    if r.new.end >> 64:
        yield f"GPA {r.new.gpa:#x} plus the size wraps around 64 bits"


def _too_large(r: Request) -> Iterator[str]:
    if r.new.size // PAGE_SIZE > _MAX_PAGES:
        yield f"{r.new.size:#x} bytes are more than {_MAX_PAGES:#x} pages: make it several slots"


def _no_such_slot(r: Request) -> Iterator[str]:
    if not r.new.size and not r.old:
        yield f"size 0 removes a slot, and there is no slot {r.new.number}"


def _changed_in_place(r: Request) -> Iterator[str]:
    if not r.old or not r.new.size:
        return
    exists = f"slot {r.new.number} exists"
    if r.new.guest_memfd or r.old.guest_memfd:
        yield f"{exists}, and a guest_memfd slot can only be removed: remove it and add another"
    if r.new.hva != r.old.hva:
        yield f"{exists} at HVA {r.old.hva:#x}: remove it to change its HVA"
    if r.new.size != r.old.size:
        yield f"{exists} with {r.old.size:#x} bytes: remove it to resize it"
    if (r.new.flags ^ r.old.flags) & KVM_MEM_READONLY:
        yield f"{exists}: remove it to change whether it is read-only"


def _overlap(r: Request) -> Iterator[str]:
    for slot in r.vm.memslots:
        if slot.number != r.new.number and slot.gpa < r.new.end and r.new.gpa < slot.end:
            yield f"it overlaps slot {slot.number}, GPA {slot.gpa:#x} to {slot.end:#x}"


def _guest_memfd_of_another_vm(r: Request) -> Iterator[str]:
    if r.new.guest_memfd and r.new.guest_memfd.owner is not r.vm:
        yield "the guest_memfd belongs to another VM: create one of this VM's own"


def _guest_memfd_too_short(r: Request) -> Iterator[str]:
    if memfd := r.new.guest_memfd:
        end = r.new.guest_memfd_offset + r.new.size
        if end > memfd.size:
            yield f"the slot ends at byte {end:#x} of a guest_memfd of {memfd.size:#x} bytes"


def _guest_memfd_bound(r: Request) -> Iterator[str]:
    start, end = r.new.guest_memfd_offset, r.new.guest_memfd_offset + r.new.size
    for slot in r.vm.memslots:
        apart = slot.guest_memfd_offset >= end or slot.guest_memfd_offset + slot.size <= start
        if slot.guest_memfd and slot.guest_memfd is r.new.guest_memfd and not apart:
            yield f"that part of the guest_memfd is slot {slot.number}'s already"


def _beyond_ipa_size(r: Request) -> Iterator[str]:
    bits = r.vm.vm_type & 0xFF or _DEFAULT_IPA_BITS  # KVM_VM_TYPE_ARM_IPA_SIZE_MASK
    if r.new.end > 1 << bits:
        yield (
            f"it ends at GPA {r.new.end:#x}, beyond this VM's {bits}-bit IPA space; "
            f"KVM_CREATE_VM takes up to {r.offers(KVM_CAP_ARM_VM_IPA_SIZE)} bits here"
        )


def _guest_memfd_not_mappable(r: Request) -> Iterator[str]:
    if r.on_arm64 and r.new.guest_memfd and not r.new.guest_memfd.flags & GUEST_MEMFD_FLAG_MMAP:
        yield "arm64 takes a guest_memfd only if it was created with GUEST_MEMFD_FLAG_MMAP"


def _memory_tagging(r: Request) -> Iterator[str]:
    if KVM_CAP_ARM_MTE not in r.vm.enabled:
        return
    if r.new.guest_memfd:
        yield "the VM uses memory tagging (KVM_CAP_ARM_MTE), which a guest_memfd cannot"
    for vma in r.vmas:
        if not vma.mte_allowed:
            yield (
                f"the VM uses memory tagging (KVM_CAP_ARM_MTE), and {vma.path or 'the mapping'} "
                "cannot hold tags: anonymous and tmpfs memory can"
            )


def _dirty_log_of_pfnmap(r: Request) -> Iterator[str]:
    if r.on_arm64 and r.new.flags & KVM_MEM_LOG_DIRTY_PAGES:
        for vma in r.vmas:
            if vma.pfnmap:
                yield f"dirty pages of device memory (PFNMAP, {vma.path}) cannot be logged"


def _cacheable_pfnmap(r: Request) -> Iterator[str]:
    if r.on_arm64 and not r.offers(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED):
        for vma in r.vmas:
            if vma.pfnmap:
                yield (
                    f"{vma.path or 'the mapping'} is device memory (PFNMAP) mapped cacheable, and "
                    "KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED is 0"
                )


def _beyond_guest_addresses(r: Request) -> Iterator[str]:
    if not r.on_arm64 and r.new.end > 1 << gpa_bits():
        yield (
            f"it ends at GPA {r.new.end:#x}, beyond the {gpa_bits()} bits that KVM can map "
            "for a guest on this CPU"
        )


RULES: tuple[tuple[str, int, Rule], ...] = (
    ("slot-number", errno.EINVAL, _slot_number),
    ("flags", errno.EINVAL, _flags),
    ("size-unaligned", errno.EINVAL, _size_unaligned),
    ("gpa-unaligned", errno.EINVAL, _gpa_unaligned),
    ("hva-unaligned", errno.EINVAL, _hva_unaligned),
    ("hva-outside-user-space", errno.EINVAL, _hva_outside_user_space),
    ("guest-memfd-offset", errno.EINVAL, _guest_memfd_offset),
    ("address-space", errno.EINVAL, _address_space),
    ("gpa-wraps", errno.EINVAL, _gpa_wraps),
    ("too-large", errno.EINVAL, _too_large),
    ("no-such-slot", errno.EINVAL, _no_such_slot),
    ("changed-in-place", errno.EINVAL, _changed_in_place),
    ("overlap", errno.EEXIST, _overlap),
    ("guest-memfd-of-another-vm", errno.EINVAL, _guest_memfd_of_another_vm),
    ("guest-memfd-too-short", errno.EINVAL, _guest_memfd_too_short),
    ("guest-memfd-bound", errno.EEXIST, _guest_memfd_bound),
    ("guest-memfd-bound", errno.EINVAL, _guest_memfd_bound),  # what older kernels say
    ("beyond-ipa-size", errno.EFAULT, _beyond_ipa_size),
    ("guest-memfd-not-mappable", errno.EINVAL, _guest_memfd_not_mappable),
    ("memory-tagging", errno.EINVAL, _memory_tagging),
    ("dirty-log-of-pfnmap", errno.EINVAL, _dirty_log_of_pfnmap),
    (CACHEABLE_PFNMAP, errno.EINVAL, _cacheable_pfnmap),
    ("beyond-guest-addresses", errno.EINVAL, _beyond_guest_addresses),
)
