# SPDX-License-Identifier: GPL-2.0-only
"""The conditions of ``KVM_RUN`` on memory that is mapped by page frame number.

VM_PFNMAP memory need not be a device's: udmabuf, drm-shmem and dma-heaps map RAM in that way.
arm64 treats RAM (pfn_is_map_memory) as ordinary memory: kvm_s2_fault_pin_pfn in
arch/arm64/kvm/mmu.c, user_mem_abort in older kernels.
"""

import errno

from pyvmm.memory import PROT_WRITE
from pyvmm.uapi.kvm import KVM_CAP_ARM_MTE
from pyvmm.why.condition import ACCESS_ERRNOS, Broken, Condition, inferred, known
from pyvmm.why.facts import AccessFacts
from pyvmm.why.registration import CACHEABLE_PFNMAP

DEVICE_NOT_READY = "device-not-ready"


def _device_memory_off(f: AccessFacts) -> Broken | None:
    """Test for a vfio device whose memory does not respond."""
    if f.area is None or (failure := f.backing_failure) is None:
        return None
    return known(f"{failure}: an access to {f.backing_name} raises SIGBUS")


def _device_unaligned(f: AccessFacts) -> Broken | None:
    """Test for an unaligned access that stage 1 allows and a Device stage 2 does not."""
    if f.host_slot is None or not f.by_pfn:
        return None
    misalignment = f.misalignment
    if misalignment is None or not f.device_in_stage2:
        return None
    if f.private_mapping and f.writes:  # the write goes to a copy in ordinary memory
        return None
    if _from_gpu_driver(f) and f.writes:  # a read-only PTE is a fault before that
        return None
    unless_ram = ", unless it is RAM" if f.may_be_ram else ""
    return inferred(
        f"the access {misalignment}; stage 1 says Normal, where that is no fault, but by its VMA "
        f"KVM maps HVA {f.page:#x} (PFNMAP) as Device in stage 2{unless_ram}; KVM does not handle "
        "an alignment fault there"
    )


def _device_atomic(f: AccessFacts) -> Broken | None:
    """Test for an atomic or exclusive on memory that is not cacheable in stage 2."""
    if f.host_slot is None or f.vma is None or not f.by_pfn or not f.atomic:
        return None
    if not (f.vma.any_uncached or f.device_in_stage2) or (f.private_mapping and f.writes):
        return None
    kind = "Normal non-cacheable" if f.vma.any_uncached else "Device"
    unless_ram = ", unless it is RAM" if f.may_be_ram else ""
    return inferred(
        f"the access is atomic or exclusive, and by its VMA KVM maps HVA {f.page:#x} (PFNMAP) as "
        f"{kind} in stage 2{unless_ram}: this CPU may not support it there, and KVM does not "
        "handle that abort"
    )


def _memory_tagging(f: AccessFacts) -> Broken | None:
    """Test for memory without tags in a VM with MTE."""
    if f.host_slot is None or KVM_CAP_ARM_MTE not in f.enabled or f.vma is None:
        return None
    if f.vma.is_bar or f.vma.mte_allowed:  # KVM looks only at what it maps cacheable
        return None
    why = (
        f"the VM has KVM_CAP_ARM_MTE enabled, and {f.vma.path or 'the mapping'} at HVA "
        f"{f.page:#x} cannot hold tags: it was mapped there after the memslot was registered"
    )
    return known(why) if f.vma.mte_allowed is False and not f.by_pfn else inferred(why)


def _pfnmap_not_writable(f: AccessFacts) -> Broken | None:
    """Test for a write through a host PTE that is still read-only."""
    if f.vma is None or not f.pfnmap or not f.area_allows(PROT_WRITE):
        return None
    if f.known_access not in ("write", None):
        return None
    unless_read = "" if f.known_access else "if the access was a write: "
    if f.private_mapping:
        why = (
            f"{unless_read}HVA {f.page:#x} is a private mapping of device memory (PFNMAP): its "
            "host PTE is read-only until user space writes to it, and KVM does not fault it in "
            "for write"
        )
        return inferred(why) if unless_read else known(why)
    # A BAR's PTEs have the VMA's own protection: vmf_insert_pfn in vfio, remap_pfn_range in sysfs.
    if f.vma.is_bar:
        return None
    return inferred(
        f"{unless_read}HVA {f.page:#x} is mapped by page frame number (PFNMAP) and writable: its "
        "host PTE is probably still read-only, as drm-shmem's are until user space writes, and KVM "
        "does not fault it in for write"
    )


def _from_gpu_driver(f: AccessFacts) -> bool:
    """Return True for a dma-buf or a GEM buffer, whose PTEs may be read-only (pfn_mkwrite)."""
    return f.vma is not None and f.vma.path.startswith(("/dmabuf:", "/dev/dri/"))


def _device_not_ready(f: AccessFacts) -> Broken | None:
    """Test for a vfio mapping that raises SIGBUS for a reason that user space cannot see."""
    if f.vma is None or not f.vma.is_vfio or f.private_mapping or f.backing_failure:
        return None
    return inferred(
        f"vfio probably rejects an access to {f.backing_name} (SIGBUS), and nothing shows why: the "
        "device is in a low-power state (VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY), or the memory of a "
        "GPU was not ready after a reset (nvgrace)"
    )


def _cacheable_pfnmap(f: AccessFacts) -> Broken | None:
    """Test for cacheable device memory on a CPU without FWB and DIC."""
    if not f.host.rejects_cacheable_pfnmap or f.host_slot is None or not f.by_pfn:
        return None
    why = (
        f"{f.backing_name} is device memory ({'PFNMAP' if f.pfnmap else 'MIXEDMAP'}) mapped "
        f"cacheable, and KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED is 0: "
        f"{f.host.missing_for_cacheable_pfnmap}; "
    )
    if not f.pfnmap:  # kvm_arch_prepare_memory_region looks at VM_PFNMAP only
        why += "KVM checks such a mapping at the first access, not when the memslot is registered"
        return None if f.readable else inferred(why)
    why += (
        "KVM would have rejected a memslot over it, so the mapping was replaced after registration"
    )
    if f.rejected_as_cacheable:
        return inferred(f"{why}; unless it is RAM") if f.may_be_ram else known(why)
    if f.rejected_as_cacheable is None and f.vma and not f.vma.any_uncached:
        return inferred(why)
    return None


_EFAULT = (errno.EFAULT,)

_ABORT = "kvm_handle_guest_abort (arch/arm64/kvm/mmu.c)"

_VFIO_SIGBUS = " or ".join(
    f"{function} VM_FAULT_SIGBUS"
    for function in (
        *("vfio_pci_mmap_huge_fault", "vfio_pci_mmap_page_fault", "vfio_pci_mmap_fault"),
        *("nvgrace_gpu_vfio_pci_huge_fault", "nvgrace_gpu_vfio_pci_fault"),
    )
)

CONDITIONS: tuple[Condition[AccessFacts], ...] = (
    Condition(
        "device-memory-off",
        ACCESS_ERRNOS,
        "vfio_pci_mmap_huge_fault (drivers/vfio/pci/vfio_pci_core.c)",
        "the vfio device behind the memslot is gone, in D3hot, or its memory space is disabled",
        _device_memory_off,
        remedies=("emulate_region",),
        evidence=(_VFIO_SIGBUS,),
    ),
    Condition(
        "device-unaligned",
        _EFAULT,
        _ABORT,
        "an unaligned access to memory that is Normal in stage 1 and Device in stage 2: KVM does "
        "not handle the abort, and the kernel logs 'Unsupported FSC'",
        _device_unaligned,
        arch="arm64",
        remedies=("emulate_aligned",),
        evidence=("kvm_handle_guest_abort -EFAULT", "log: Unsupported FSC"),
    ),
    # Linux 7.3 injects the abort into the guest instead (kvm_inject_dabt_excl_atomic).
    Condition(
        "device-atomic",
        _EFAULT,
        _ABORT,
        "an atomic or exclusive to memory that is not cacheable in stage 2, on a CPU that does not "
        "support it there: the kernel logs 'Unsupported FSC'",
        _device_atomic,
        arch="arm64",
        remedies=("emulate_aligned",),
        evidence=("kvm_handle_guest_abort -EFAULT", "log: Unsupported FSC"),
    ),
    Condition(
        "pfnmap-not-writable",
        _EFAULT,
        "hva_to_pfn_remapped (virt/kvm/kvm_main.c)",
        "a write to PFNMAP memory whose host PTE is still read-only",
        _pfnmap_not_writable,
        arch="arm64",  # x86 emulates the write: kvm_handle_error_pfn in arch/x86/kvm/mmu/mmu.c
        remedies=("prefault", "emulate_region"),
        evidence=("hva_to_pfn KVM_PFN_ERR_RO_FAULT",),
    ),
    Condition(
        CACHEABLE_PFNMAP,
        _EFAULT,
        "user_mem_abort (arch/arm64/kvm/mmu.c)",
        "device memory (PFNMAP or MIXEDMAP) mapped cacheable is behind the memslot: it replaced "
        "another mapping, or KVM does not check it at registration",
        _cacheable_pfnmap,
        arch="arm64",
        remedies=("copy", "restore_replaced", "emulate_region"),
        evidence=("user_mem_abort -EFAULT",),
    ),
    Condition(
        "memory-tagging",
        _EFAULT,
        "kvm_s2_fault_compute_prot, formerly user_mem_abort (arch/arm64/kvm/mmu.c)",
        "the VM has KVM_CAP_ARM_MTE enabled, and the memory cannot hold tags",
        _memory_tagging,
        arch="arm64",
        remedies=("restore_replaced",),
        evidence=("user_mem_abort -EFAULT",),
    ),
    Condition(
        DEVICE_NOT_READY,
        _EFAULT,
        "vfio_pci_vmf_insert_pfn (drivers/vfio/pci/vfio_pci_core.c), "
        "nvgrace_gpu_check_device_ready (drivers/vfio/pci/nvgrace-gpu/main.c)",
        "the vfio device behind the memslot is in runtime suspend, or its memory is not ready "
        "after a reset",
        _device_not_ready,
        remedies=("emulate_region",),
        evidence=(_VFIO_SIGBUS,),
    ),
)
