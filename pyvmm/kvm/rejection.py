# SPDX-License-Identifier: GPL-2.0-only
"""Why the kernel rejected a memslot.

``KVM_SET_USER_MEMORY_REGION`` answers almost everything with EINVAL. The kernel's own conditions
are few, and all but one can be checked from user space: so each is checked in turn, in the
kernel's order (kvm_set_memory_region in virt/kvm/kvm_main.c, then the architecture's
kvm_arch_prepare_memory_region). The one that no one can check, a VMA's cacheability, is what
remains for a PFNMAP VMA that breaks no other rule.
"""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pyvmm.ioctl import IoctlError, errno_name
from pyvmm.memory import PAGE_SIZE
from pyvmm.uapi.kvm import (
    KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED,
    KVM_CAP_ARM_MTE,
    KVM_CAP_ARM_VM_IPA_SIZE,
    KVM_CAP_GUEST_MEMFD,
    KVM_CAP_NR_MEMSLOTS,
    KVM_CAP_READONLY_MEM,
    KVM_MEM_GUEST_MEMFD,
    KVM_MEM_LOG_DIRTY_PAGES,
    KVM_MEM_READONLY,
    kvm_userspace_memory_region2,
)
from pyvmm.vma import Vma, vmas

if TYPE_CHECKING:
    from pyvmm.kvm.memslots import Memslot
    from pyvmm.kvm.vm import Vm

CACHEABLE_PFNMAP = "cacheable-pfnmap-unsupported"

_MAX_PAGES = (1 << 31) - 1  # KVM_MEM_MAX_NR_PAGES, include/linux/kvm_host.h
_DEFAULT_IPA_BITS = 40  # KVM_PHYS_SHIFT, arch/arm64/include/asm/kvm_mmu.h


@dataclass(frozen=True)
class Request:
    """A rejected request, with what its VM and this process can tell about it."""

    vm: "Vm"
    region: kvm_userspace_memory_region2

    @cached_property
    def old(self) -> "Memslot | None":
        """The slot that already has this number."""
        return next((s for s in self.vm.memslots if s.number == self.region.slot), None)

    @cached_property
    def vmas(self) -> list[Vma]:
        """The areas under the request's HVA range."""
        return vmas(self.region.userspace_addr, self.region.memory_size)

    @property
    def end(self) -> int:
        """The first GPA after the request."""
        return self.region.guest_phys_addr + self.region.memory_size

    def offers(self, capability: int) -> int:
        """What the VM answers to a capability; 0 where it does not know it."""
        try:
            return self.vm.check(capability)
        except IoctlError:
            return 0


def explain(vm: "Vm", region: kvm_userspace_memory_region2, number: int) -> tuple[str, str]:
    """The first rule that `region` breaks, as (cause, why); `number` is the kernel's errno."""
    request = Request(vm, region)
    for cause, code, rule in _RULES:
        if code == number and (why := next(rule(request), None)):
            return cause, why
    return "unknown", f"it breaks no rule that pyvmm knows of, and got {errno_name(number)}"


Rule = Callable[[Request], Iterator[str]]


def _unknown_flags(r: Request) -> Iterator[str]:
    allowed = KVM_MEM_LOG_DIRTY_PAGES
    if r.region.flags & KVM_MEM_GUEST_MEMFD and r.offers(KVM_CAP_GUEST_MEMFD):
        allowed = KVM_MEM_GUEST_MEMFD
    elif r.offers(KVM_CAP_READONLY_MEM):
        allowed |= KVM_MEM_READONLY
    if extra := r.region.flags & ~allowed:
        yield f"flags {extra:#x} are not allowed here (this VM takes {allowed:#x})"


def _size_unaligned(r: Request) -> Iterator[str]:
    if r.region.memory_size % PAGE_SIZE:
        yield f"size {r.region.memory_size:#x} is not a multiple of the page size {PAGE_SIZE:#x}"


def _gpa_unaligned(r: Request) -> Iterator[str]:
    if r.region.guest_phys_addr % PAGE_SIZE:
        yield f"GPA {r.region.guest_phys_addr:#x} is not on a {PAGE_SIZE:#x}-byte page boundary"


def _hva_unaligned(r: Request) -> Iterator[str]:
    if r.region.userspace_addr % PAGE_SIZE:
        yield f"HVA {r.region.userspace_addr:#x} is not on a {PAGE_SIZE:#x}-byte page boundary"


def _hva_outside_user_space(r: Request) -> Iterator[str]:
    if (r.region.userspace_addr + r.region.memory_size) >> 56:
        yield f"HVA {r.region.userspace_addr:#x} is tagged or outside this process's addresses"


def _guest_memfd_offset(r: Request) -> Iterator[str]:
    if r.region.flags & KVM_MEM_GUEST_MEMFD and r.region.guest_memfd_offset % PAGE_SIZE:
        yield f"guest_memfd offset {r.region.guest_memfd_offset:#x} is not on a page boundary"


def _slot_number(r: Request) -> Iterator[str]:
    limit = r.offers(KVM_CAP_NR_MEMSLOTS)
    if r.region.slot & 0xFFFF >= limit:
        yield f"slot {r.region.slot} is beyond this VM's limit of {limit} slots"
    elif r.region.slot >> 16:
        yield f"address space {r.region.slot >> 16} does not exist in this VM"


def _gpa_wraps(r: Request) -> Iterator[str]:
    if r.end >> 64:
        yield f"GPA {r.region.guest_phys_addr:#x} plus the size wraps around 64 bits"


def _too_large(r: Request) -> Iterator[str]:
    if r.region.memory_size // PAGE_SIZE > _MAX_PAGES:
        yield f"{r.region.memory_size:#x} bytes are more than {_MAX_PAGES} pages, a slot's most"


def _nothing_to_remove(r: Request) -> Iterator[str]:
    if not r.region.memory_size and not r.old:
        yield f"size 0 removes a slot, and there is no slot {r.region.slot}"


def _guest_memfd_immutable(r: Request) -> Iterator[str]:
    if r.old and r.region.flags & KVM_MEM_GUEST_MEMFD:
        yield f"slot {r.region.slot} exists; a guest_memfd slot can only be removed"


def _changed_in_place(r: Request) -> Iterator[str]:
    if not r.old or not r.region.memory_size:
        return
    if r.region.userspace_addr != r.old.hva:
        yield f"slot {r.region.slot} exists at HVA {r.old.hva:#x}; remove it to change its HVA"
    if r.region.memory_size != r.old.size:
        yield f"slot {r.region.slot} exists with {r.old.size:#x} bytes; remove it to resize it"
    if (r.region.flags ^ r.old.flags) & KVM_MEM_READONLY:
        yield f"slot {r.region.slot} exists; remove it to change whether it is read-only"


def _overlap(r: Request) -> Iterator[str]:
    for slot in r.vm.memslots:
        apart = r.end <= slot.gpa or slot.end <= r.region.guest_phys_addr
        if slot.number != r.region.slot and not apart:
            yield f"it overlaps slot {slot.number}, GPA {slot.gpa:#x} to {slot.end:#x}"


def _beyond_ipa_size(r: Request) -> Iterator[str]:
    bits = r.vm.vm_type & 0xFF or _DEFAULT_IPA_BITS
    if r.end > 1 << bits:
        most = r.offers(KVM_CAP_ARM_VM_IPA_SIZE)
        yield (
            f"it ends at GPA {r.end:#x}, beyond this VM's {bits}-bit IPA space "
            f"(KVM_CAP_ARM_VM_IPA_SIZE offers up to {most} bits)"
        )


def _guest_memfd_range(r: Request) -> Iterator[str]:
    if r.region.flags & KVM_MEM_GUEST_MEMFD:
        yield (
            "the guest_memfd belongs to another VM, is shorter than the slot, is bound to another "
            "slot there already, or (arm64) was made without GUEST_MEMFD_FLAG_MMAP"
        )


def _without_tags(r: Request) -> Iterator[str]:
    if r.offers(KVM_CAP_ARM_MTE) and any(not vma.memory_tagging for vma in r.vmas):
        yield "the VM uses memory tagging, and this mapping cannot hold tags"


def _dirty_log_of_pfnmap(r: Request) -> Iterator[str]:
    if r.region.flags & KVM_MEM_LOG_DIRTY_PAGES and any(vma.pfnmap for vma in r.vmas):
        yield "dirty pages of device memory (PFNMAP) cannot be logged"


def _cacheable_pfnmap(r: Request) -> Iterator[str]:
    if r.offers(KVM_CAP_ARM_VM_IPA_SIZE) and not r.offers(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED):
        for vma in r.vmas:
            if vma.pfnmap:
                yield (
                    f"{vma.path or 'the mapping'} is device memory (PFNMAP) mapped cacheable, and "
                    "KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED is 0: the CPU must have both FWB and "
                    "DIC, or the host could see stale cache lines"
                )


def _beyond_guest_addresses(r: Request) -> Iterator[str]:
    if not r.offers(KVM_CAP_ARM_VM_IPA_SIZE) and r.end > 1 << 36:
        yield f"it ends at GPA {r.end:#x}, beyond the guest's physical address space"


_RULES: tuple[tuple[str, int, Rule], ...] = (
    ("unknown-flags", errno.EINVAL, _unknown_flags),
    ("size-unaligned", errno.EINVAL, _size_unaligned),
    ("gpa-unaligned", errno.EINVAL, _gpa_unaligned),
    ("hva-unaligned", errno.EINVAL, _hva_unaligned),
    ("hva-outside-user-space", errno.EINVAL, _hva_outside_user_space),
    ("guest-memfd-offset", errno.EINVAL, _guest_memfd_offset),
    ("slot-number", errno.EINVAL, _slot_number),
    ("gpa-wraps", errno.EINVAL, _gpa_wraps),
    ("too-large", errno.EINVAL, _too_large),
    ("no-such-slot", errno.EINVAL, _nothing_to_remove),
    ("guest-memfd-immutable", errno.EINVAL, _guest_memfd_immutable),
    ("changed-in-place", errno.EINVAL, _changed_in_place),
    ("overlap", errno.EEXIST, _overlap),
    ("beyond-ipa-size", errno.EFAULT, _beyond_ipa_size),
    ("guest-memfd-range", errno.EINVAL, _guest_memfd_range),
    ("memory-tagging", errno.EINVAL, _without_tags),
    ("dirty-log-of-pfnmap", errno.EINVAL, _dirty_log_of_pfnmap),
    (CACHEABLE_PFNMAP, errno.EINVAL, _cacheable_pfnmap),
    ("beyond-guest-addresses", errno.EINVAL, _beyond_guest_addresses),
)
