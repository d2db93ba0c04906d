# SPDX-License-Identifier: GPL-2.0-only
"""The conditions under which KVM rejects a memslot, in the kernel's order.

``KVM_SET_USER_MEMORY_REGION`` answers nearly all of them with EINVAL. The order is that of
kvm_vm_ioctl_set_memory_region and kvm_set_memory_region in virt/kvm/kvm_main.c, kvm_gmem_bind in
virt/kvm/guest_memfd.c and the architecture's kvm_arch_prepare_memory_region. Since Linux 7.3,
kvm_gmem_prepare_memory_region tests a guest_memfd before the architecture does, and
kvm_gmem_commit_memory_region tests after it whether the part is bound. User space can check all
conditions but one: whether a PFNMAP VMA is mapped cacheable.
"""

import errno

from pyvmm.memory import PAGE_SIZE
from pyvmm.uapi.kvm import (
    GUEST_MEMFD_FLAG_MMAP,
    KVM_CAP_ARM_MTE,
    KVM_CAP_ARM_VM_IPA_SIZE,
    KVM_CAP_GUEST_MEMFD,
    KVM_CAP_MULTI_ADDRESS_SPACE,
    KVM_CAP_NR_MEMSLOTS,
    KVM_CAP_READONLY_MEM,
    KVM_CAP_USER_MEMORY2,
    KVM_MEM_GUEST_MEMFD,
    KVM_MEM_LOG_DIRTY_PAGES,
    KVM_MEM_READONLY,
)
from pyvmm.why.condition import Broken, Condition, Unseen, inferred, known
from pyvmm.why.facts import SMALLEST_IPA_BITS, RegistrationFacts
from pyvmm.why.slot import need
from pyvmm.why.vcpu_conditions import ANOTHER_PROCESS, VM_DEAD, another_process, vm_dead

CACHEABLE_PFNMAP = "cacheable-pfnmap-unsupported"

_FLAGS = KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY | KVM_MEM_GUEST_MEMFD
_MAX_PAGES = (1 << 31) - 1  # KVM_MEM_MAX_NR_PAGES, include/linux/kvm_host.h

_VM_IOCTL = "kvm_vm_ioctl (virt/kvm/kvm_main.c)"
_SET = "kvm_set_memory_region (virt/kvm/kvm_main.c)"
_BIND = "kvm_gmem_bind, since 7.3 kvm_gmem_prepare_memory_region (virt/kvm/guest_memfd.c)"
_ARM64 = "kvm_arch_prepare_memory_region (arch/arm64/kvm/mmu.c)"
_X86 = "kvm_arch_prepare_memory_region (arch/x86/kvm/x86.c)"


def _region2_unsupported(f: RegistrationFacts) -> Broken | None:
    if f.slot.guest_memfd is None or f.host.offers(KVM_CAP_USER_MEMORY2):
        return None
    return known("this kernel has no KVM_SET_USER_MEMORY_REGION2 (KVM_CAP_USER_MEMORY2 is 0)")


def _slot_number(f: RegistrationFacts) -> Broken | None:
    limit = f.host.offers(KVM_CAP_NR_MEMSLOTS)
    if f.slot.number & 0xFFFF < limit:
        return None
    return known(
        f"slot {f.slot.number} exceeds this VM's limit: number slots from 0 to {limit - 1}"
    )


def _flags(f: RegistrationFacts) -> Broken | None:
    if f.slot.flags & KVM_MEM_GUEST_MEMFD and not f.host.offers(KVM_CAP_GUEST_MEMFD):
        return known("this VM has no guest_memfd (KVM_CAP_GUEST_MEMFD is 0)")
    if f.slot.guest_memfd and f.slot.readonly:
        return known("a guest_memfd slot cannot be read-only: KVM_MEM_READONLY is rejected with it")
    if f.slot.guest_memfd and f.slot.flags & KVM_MEM_LOG_DIRTY_PAGES:
        return known("KVM cannot log the dirty pages of a guest_memfd slot")
    if f.slot.readonly and not f.host.offers(KVM_CAP_READONLY_MEM):
        return known("this VM has no read-only slots (KVM_CAP_READONLY_MEM is 0)")
    if unknown := f.slot.flags & ~_FLAGS:
        return inferred(f"this kernel probably has no flag {unknown:#x}: pyvmm's headers do not")
    return None


def _unaligned(name: str, value: int) -> Broken | None:
    if value % PAGE_SIZE == 0:
        return None
    return known(f"{name} {value:#x} is not a multiple of the page size {PAGE_SIZE:#x}")


def _in_user_space(f: RegistrationFacts) -> Broken | None:
    if f.in_user_space:
        return None
    return known(f"HVA {f.slot.hva:#x} is tagged, or the range ends beyond the user address space")


def _guest_memfd_offset(f: RegistrationFacts) -> Broken | None:
    if f.slot.guest_memfd is None:
        return None
    return _unaligned("guest_memfd offset", f.slot.guest_memfd_offset)


def _address_space(f: RegistrationFacts) -> Broken | None:
    space, count = f.slot.address_space, f.host.offers(KVM_CAP_MULTI_ADDRESS_SPACE) or 1
    if space < count:
        return None
    return known(f"slot {f.slot.number:#x} is in address space {space}; this VM has {count}")


def _gpa_wraps(f: RegistrationFacts) -> Broken | None:
    if not f.slot.end >> 64:
        return None
    return known(f"GPA {f.slot.gpa:#x} plus the size wraps around 64 bits")


def _too_large(f: RegistrationFacts) -> Broken | None:
    if f.slot.size // PAGE_SIZE <= _MAX_PAGES:
        return None
    return known(f"{f.slot.size:#x} bytes are more than {_MAX_PAGES:#x} pages: use several slots")


def _no_such_slot(f: RegistrationFacts) -> Broken | None:
    if f.slot.size or f.existing:
        return None
    return known(f"size 0 deletes a slot, and slot {f.slot.number} does not exist")


def _changed_in_place(f: RegistrationFacts) -> Broken | None:
    new = f.slot
    if not new.size or (old := f.existing) is None:
        return None
    exists = f"slot {new.number} exists"
    if new.guest_memfd or old.guest_memfd:
        return known(f"{exists}, and a guest_memfd slot cannot change: delete it, add another")
    if new.hva != old.hva:
        return known(f"{exists} at HVA {old.hva:#x}: delete it to change its HVA")
    if new.size != old.size:
        return known(f"{exists} with {old.size:#x} bytes: delete it to resize it")
    if (new.flags ^ old.flags) & KVM_MEM_READONLY:
        return known(f"{exists}: delete it to change KVM_MEM_READONLY")
    return None


def _overlap(f: RegistrationFacts) -> Broken | None:
    if not f.slot.size:
        return None
    for slot in f.memslots:
        if slot.number == f.slot.number or slot.address_space != f.slot.address_space:
            continue
        if slot.gpa < f.slot.end and f.slot.gpa < slot.end:
            return known(f"it overlaps slot {slot.number}, GPA {slot.gpa:#x} to {slot.end:#x}")
    return None


def _out_of_memory(f: RegistrationFacts) -> Broken | None:
    if not f.slot.flags & KVM_MEM_LOG_DIRTY_PAGES:
        return inferred("the kernel has no memory for the slot's metadata")
    bitmaps = -(-f.slot.size // PAGE_SIZE // 64) * 8 * 2
    return inferred(
        f"the kernel has no memory for the slot's dirty bitmaps, {bitmaps:#x} bytes: use smaller "
        "slots, or KVM_CAP_DIRTY_LOG_RING"
    )


def _guest_memfd_bad_descriptor(f: RegistrationFacts) -> Broken | None:
    if f.slot.guest_memfd is None or f.memfd_file:
        return None
    return known("the guest_memfd's descriptor is closed")


def _not_a_guest_memfd(f: RegistrationFacts) -> Broken | None:
    if f.slot.guest_memfd is None or "kvm-gmem" in f.memfd_file:
        return None
    return known(
        f"the guest_memfd's descriptor refers to {f.memfd_file}: pass one of KVM_CREATE_GUEST_MEMFD"
    )


def _guest_memfd_of_another_vm(f: RegistrationFacts) -> Broken | None:
    if f.slot.guest_memfd is None or f.slot.guest_memfd.owner is f.vm:
        return None
    return known("the guest_memfd belongs to another VM: create one with this VM's fd")


def _guest_memfd_too_short(f: RegistrationFacts) -> Broken | None:
    if (memfd := f.slot.guest_memfd) is None:
        return None
    end = f.slot.guest_memfd_offset + f.slot.size
    if end <= memfd.size:
        return None
    return known(f"the slot ends at byte {end:#x} of a guest_memfd of {memfd.size:#x} bytes")


def _guest_memfd_bound(f: RegistrationFacts) -> Broken | None:
    if f.slot.guest_memfd is None:
        return None
    start, end = f.slot.guest_memfd_offset, f.slot.guest_memfd_offset + f.slot.size
    for slot in f.memslots:
        disjoint = slot.guest_memfd_offset >= end or slot.guest_memfd_offset + slot.size <= start
        if slot.guest_memfd == f.slot.guest_memfd and not disjoint:
            why = f"slot {slot.number} is already bound to that part of the guest_memfd"
            # Kernels that answer EEXIST look after the architecture has accepted the slot.
            if f.errno == errno.EEXIST:
                return known(why)
            answer = f.host.guest_memfd_bound_errno and f.host.guest_memfd_bound_errno()
            if answer is None:
                return inferred(why)
            return known(why) if answer == f.errno else None
    return None


def _protected_vm(f: RegistrationFacts) -> Broken | None:
    if not f.protected:
        return None
    if f.slot.size and f.slot.flags & (KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY):
        return known("a protected VM has no dirty logging and no read-only slots")
    return known("the slots of a protected VM do not change once a vCPU has run")


def _beyond_ipa_size(f: RegistrationFacts) -> Broken | None:
    if f.slot.end <= 1 << SMALLEST_IPA_BITS or f.slot.end <= 1 << f.ipa_bits:
        return None
    most = f.host.offers(KVM_CAP_ARM_VM_IPA_SIZE)
    if f.slot.end > 1 << most:  # in protected mode, every VM has these bits (kvm_init_ipa_range)
        return known(
            f"it ends at GPA {f.slot.end:#x}, beyond the {most} bits that KVM offers here for IPAs"
        )
    return known(
        f"it ends at GPA {f.slot.end:#x}, beyond this VM's {f.ipa_bits}-bit IPA space; "
        f"KVM_CREATE_VM accepts up to {most} bits here"
    )


def _guest_memfd_not_mappable(f: RegistrationFacts) -> Broken | None:
    if f.slot.guest_memfd is None or f.slot.guest_memfd.flags & GUEST_MEMFD_FLAG_MMAP:
        return None
    return known("arm64 accepts only a guest_memfd created with GUEST_MEMFD_FLAG_MMAP")


def _memory_tagging(f: RegistrationFacts) -> Broken | None:
    if not f.slot.size or not f.host.offers(KVM_CAP_ARM_MTE) or KVM_CAP_ARM_MTE not in f.enabled:
        return None
    if f.slot.guest_memfd:
        return known("the VM has KVM_CAP_ARM_MTE enabled, and a guest_memfd cannot hold tags")
    undecided = None
    for vma in f.vmas:
        if vma.mte_allowed is False:
            return known(
                f"the VM has KVM_CAP_ARM_MTE enabled, and {vma.path or 'the mapping'} cannot hold "
                "tags: use anonymous or tmpfs memory"
            )
        if vma.mte_allowed is None:
            undecided = undecided or vma
    if undecided is None:
        return None
    return inferred(
        f"the VM has KVM_CAP_ARM_MTE enabled, and {undecided.path} may be unable to hold tags: "
        "smaps does not show VM_MTE_ALLOWED, which hugetlb has since Linux 6.13"
    )


def _dirty_log_of_pfnmap(f: RegistrationFacts) -> Broken | None:
    if not f.slot.flags & KVM_MEM_LOG_DIRTY_PAGES:
        return None
    for vma in f.vmas:
        if vma.pfnmap:
            return known(f"KVM cannot log dirty pages of device memory (PFNMAP, {vma.path})")
    return None


def _cacheable_pfnmap(f: RegistrationFacts) -> Broken | None:
    if not f.slot.size or not f.host.rejects_cacheable_pfnmap:
        return None
    missing = f.host.missing_for_cacheable_pfnmap
    for vma in f.vmas:
        if vma.pfnmap:
            why = (
                f"{vma.path or 'the mapping'} is device memory (PFNMAP) mapped cacheable, and "
                f"KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED is 0: {missing}"
            )
            if not vma.is_bar:  # kvm_s2_fault_pin_pfn looks at the page, this function does not
                why += (
                    "; if it is RAM (udmabuf, dma-heap), KVM accepts it when mmap(MAP_FIXED) maps "
                    "it over memory that is registered already"
                )
            return inferred(why)
    return None


def _beyond_guest_addresses(f: RegistrationFacts) -> Broken | None:
    bits = need(f.host.gpa_bits, "the width of a guest physical address")
    if f.slot.end <= 1 << bits:
        return None
    return known(
        f"it ends at GPA {f.slot.end:#x}, beyond the {bits} bits that KVM maps for a guest on "
        "this CPU"
    )


_EINVAL = (errno.EINVAL,)

# What the kernel's own path shows: `pyvmm.why.condition.Evidence`.
_BY_IOCTL = ("kvm_vm_ioctl -EINVAL",)
_BY_SET = ("kvm_set_memory_region -EINVAL or __kvm_set_memory_region -EINVAL",)
_BY_GMEM = ("kvm_gmem_bind -EINVAL or kvm_gmem_prepare_memory_region -EINVAL",)
_BY_ARCH = ("kvm_arch_prepare_memory_region -EINVAL",)

CONDITIONS: tuple[Condition[RegistrationFacts], ...] = (
    Condition(
        "region2-unsupported",
        (errno.ENOTTY, errno.EINVAL),  # EINVAL on arm64
        "kvm_vm_ioctl (virt/kvm/kvm_main.c), kvm_arch_vm_ioctl (arch/arm64/kvm/arm.c)",
        "the kernel has no KVM_SET_USER_MEMORY_REGION2, which Linux 6.8 added",
        _region2_unsupported,
        evidence=("kvm_vm_ioctl -EINVAL or kvm_vm_ioctl -ENOTTY",),
    ),
    Condition(
        "another-process",
        (errno.EIO,),
        _VM_IOCTL,
        ANOTHER_PROCESS,
        another_process,
        evidence=("kvm_vm_ioctl -EIO",),
    ),
    Condition(
        "vm-dead",
        (errno.EIO,),
        _VM_IOCTL,
        VM_DEAD,
        vm_dead,
        evidence=("kvm_vm_ioctl -EIO",),
    ),
    Condition(
        "slot-number",
        _EINVAL,
        "kvm_vm_ioctl_set_memory_region (virt/kvm/kvm_main.c)",
        "the slot's number exceeds KVM_CAP_NR_MEMSLOTS",
        _slot_number,
        evidence=_BY_IOCTL,
    ),
    Condition(
        "flags",
        _EINVAL,
        "check_memory_region_flags (virt/kvm/kvm_main.c)",
        "the flags do not go together",
        _flags,
        evidence=_BY_IOCTL,
    ),
    Condition(
        "size-unaligned",
        _EINVAL,
        _SET,
        "the size is not a multiple of the page size",
        lambda f: _unaligned("size", f.slot.size),
        evidence=_BY_SET,
    ),
    Condition(
        "gpa-unaligned",
        _EINVAL,
        _SET,
        "the GPA is not a multiple of the page size",
        lambda f: _unaligned("GPA", f.slot.gpa),
        evidence=_BY_SET,
    ),
    Condition(
        "hva-unaligned",
        _EINVAL,
        _SET,
        "the HVA is not a multiple of the page size",
        lambda f: _unaligned("HVA", f.slot.hva),
        evidence=_BY_SET,
    ),
    Condition(
        "hva-outside-user-space",
        _EINVAL,
        _SET,
        "the HVA range leaves the user address space",
        _in_user_space,
        evidence=_BY_SET,
    ),
    Condition(
        "guest-memfd-offset",
        _EINVAL,
        _SET,
        "the guest_memfd offset is not a multiple of the page size",
        _guest_memfd_offset,
        evidence=_BY_SET,
    ),
    Condition(
        "address-space",
        _EINVAL,
        _SET,
        "the VM has no such address space",
        _address_space,
        evidence=_BY_SET,
    ),
    Condition(
        "gpa-wraps",
        _EINVAL,
        _SET,
        "the GPA range wraps around 64 bits",
        _gpa_wraps,
        evidence=_BY_SET,
    ),
    Condition(
        "too-large",
        _EINVAL,
        _SET,
        "the slot has too many pages",
        _too_large,
        evidence=_BY_SET,
    ),
    Condition(
        "no-such-slot",
        _EINVAL,
        _SET,
        "size 0 deletes a slot, and none has this number",
        _no_such_slot,
        evidence=_BY_SET,
    ),
    Condition(
        "changed-in-place",
        _EINVAL,
        _SET,
        "the slot exists with another HVA, size, KVM_MEM_READONLY or guest_memfd",
        _changed_in_place,
        evidence=_BY_SET,
    ),
    Condition(
        "overlap",
        (errno.EEXIST,),
        "kvm_check_memslot_overlap (virt/kvm/kvm_main.c)",
        "another slot has some of these GPAs",
        _overlap,
        evidence=("kvm_set_memory_region -EEXIST or __kvm_set_memory_region -EEXIST",),
    ),
    Condition(
        "out-of-memory",
        (errno.ENOMEM,),
        "kvm_alloc_dirty_bitmap (virt/kvm/kvm_main.c), kvm_alloc_memslot_metadata "
        "(arch/x86/kvm/x86.c)",
        "the kernel has no memory for the slot's dirty bitmaps or metadata",
        _out_of_memory,
        evidence=("kvm_vm_ioctl -ENOMEM",),
    ),
    Condition(
        "guest-memfd-bad-descriptor",
        (errno.EBADF,),
        _BIND,
        "the guest_memfd's descriptor is closed",
        _guest_memfd_bad_descriptor,
        evidence=("kvm_gmem_bind -EBADF or kvm_gmem_prepare_memory_region -EBADF",),
    ),
    Condition(
        "not-a-guest-memfd",
        _EINVAL,
        _BIND,
        "the descriptor is not a guest_memfd",
        _not_a_guest_memfd,
        evidence=_BY_GMEM,
    ),
    Condition(
        "guest-memfd-of-another-vm",
        _EINVAL,
        _BIND,
        "the guest_memfd belongs to another VM",
        _guest_memfd_of_another_vm,
        evidence=_BY_GMEM,
    ),
    Condition(
        "guest-memfd-too-short",
        _EINVAL,
        _BIND,
        "the guest_memfd ends before the slot",
        _guest_memfd_too_short,
        evidence=_BY_GMEM,
    ),
    Condition(
        "guest-memfd-bound",
        (errno.EEXIST, errno.EINVAL),  # EINVAL on older kernels
        "kvm_gmem_bind, since 7.3 kvm_gmem_commit_memory_region (virt/kvm/guest_memfd.c)",
        "another slot is bound to that part of the guest_memfd",
        _guest_memfd_bound,
        evidence=(
            "kvm_gmem_bind -EINVAL or kvm_gmem_bind -EEXIST "
            "or kvm_gmem_commit_memory_region -EEXIST",
        ),
    ),
    Condition(
        "protected-vm",
        (errno.EPERM,),
        _ARM64,
        "the VM is protected: it has no dirty logging and no read-only slots, and its slots do not "
        "change once it has run",
        _protected_vm,
        arch="arm64",
        evidence=("kvm_arch_prepare_memory_region -EPERM",),
    ),
    Condition(
        "beyond-ipa-size",
        (errno.EFAULT,),
        _ARM64,
        "the VM was created with too few IPA bits",
        _beyond_ipa_size,
        arch="arm64",
        evidence=("kvm_arch_prepare_memory_region -EFAULT",),
    ),
    Condition(
        "guest-memfd-not-mappable",
        _EINVAL,
        _ARM64,
        "the guest_memfd was created without GUEST_MEMFD_FLAG_MMAP",
        _guest_memfd_not_mappable,
        arch="arm64",
        evidence=_BY_ARCH,
    ),
    Condition(
        "memory-tagging",
        _EINVAL,
        _ARM64,
        "the VM has KVM_CAP_ARM_MTE enabled, and the memory cannot hold tags",
        _memory_tagging,
        arch="arm64",
        evidence=_BY_ARCH,
    ),
    Condition(
        "dirty-log-of-pfnmap",
        _EINVAL,
        _ARM64,
        "the memory is device memory (PFNMAP), whose dirty pages KVM cannot log",
        _dirty_log_of_pfnmap,
        arch="arm64",
        evidence=_BY_ARCH,
    ),
    Condition(
        CACHEABLE_PFNMAP,
        _EINVAL,
        _ARM64,
        "the memory is device memory (PFNMAP) mapped cacheable",
        _cacheable_pfnmap,
        arch="arm64",
        evidence=_BY_ARCH,
    ),
    Condition(
        "beyond-guest-addresses",
        _EINVAL,
        _X86,
        "the slot ends beyond the guest physical address width",
        _beyond_guest_addresses,
        arch="x86_64",
        evidence=Unseen("only x86 fails this way, and it is not probed"),
    ),
)
