# SPDX-License-Identifier: GPL-2.0-only
"""The conditions under which ``KVM_RUN`` fails, or exits for an access it did not resolve.

The order is the kernel's: kvm_vcpu_ioctl in virt/kvm/kvm_main.c, then on arm64
kvm_arch_vcpu_ioctl_run in arch/arm64/kvm/arm.c, kvm_handle_guest_abort and user_mem_abort in mmu.c,
io_mem_abort in mmio.c; hva_to_pfn in virt/kvm/kvm_main.c for the page itself.
"""

import errno

from pyvmm.errno_names import EHWPOISON
from pyvmm.memory import PROT_READ, PROT_WRITE
from pyvmm.uapi.kvm import KVM_CAP_GUEST_MEMFD, KVM_CAP_MEMORY_ATTRIBUTES
from pyvmm.why import host_fault, pfnmap, protected, vcpu
from pyvmm.why.condition import Broken, Condition, Unseen, inferred, known
from pyvmm.why.facts import AccessFacts
from pyvmm.why.registration import CACHEABLE_PFNMAP
from pyvmm.why.slot import Absent, need

DEVICE_NOT_READY = "device-not-ready"
REPLACED = "vma-replaced"

_NO_SYNDROME = ("arm_nisv", "arm_ldst64b")  # KVM_EXIT_ARM_NISV, KVM_EXIT_ARM_LDST64B


def _external_abort(f: AccessFacts) -> Broken | None:
    if need(f.exit, "the exit") != "arm_sea":
        return None
    return known(
        f"synchronous external abort (ESR {f.esr:#x}): the memory or device did not respond"
    )


def _hardware_poison(f: AccessFacts) -> Broken | None:
    if f.poisoned_hva is not None and not f.poison_consumed:
        return known(
            f"the hardware reported a memory error at HVA {f.poisoned_hva:#x}, which no access has "
            "consumed yet: the kernel sent SIGBUS (BUS_MCEERR_AO)"
        )
    if f.poisoned_hva is not None and not _perhaps_marker(f):
        return known(
            f"the hardware reported a memory error at HVA {f.poisoned_hva:#x}: KVM sent SIGBUS "
            "(BUS_MCEERR_AR)"
        )
    if f.poisoned_hva is None and f.errno != EHWPOISON:
        return None
    how = "failed with EHWPOISON" if f.errno else f"sent SIGBUS for HVA {f.poisoned_hva:#x}"
    return inferred(
        f"KVM_RUN {how}: the hardware reported a memory error, or UFFDIO_POISON or a failed "
        "swap-in poisoned the page"
    )


def _perhaps_marker(f: AccessFacts) -> bool:
    """Return True unless the kernel shows that no PTE marker poisons the page."""
    try:
        return f.page_state.poison_marker is not False
    except Absent:
        return True


def _no_syndrome(f: AccessFacts) -> Broken | None:
    if f.errno != errno.ENOSYS:
        if need(f.exit, "the exit") not in _NO_SYNDROME:
            return None
        if not need(f.device_at_gpa, "the devices the VMM emulates"):
            return None
    return known(
        "the CPU's syndrome does not describe this kind of access (ESR_EL2.ISV is 0), so KVM "
        "cannot turn it into an MMIO exit"
    )


def _memory_attributes(f: AccessFacts) -> Broken | None:
    if f.private is None or not f.host.offers(KVM_CAP_MEMORY_ATTRIBUTES):
        return None
    if f.private == f.page_private:
        return None
    kinds = ("private", "shared") if f.private else ("shared", "private")
    return known(
        f"the guest accesses the memory as {kinds[0]}; its memory attributes say {kinds[1]}"
    )


def _outside_memslots(f: AccessFacts) -> Broken | None:
    if f.slot is None:
        if f.device_at_gpa:
            return None
        return known(f"no memslot backs GPA {f.gpa:#x}, and the VMM emulates no device there")
    if f.slot.readonly and f.writes:
        return known(
            f"slot {f.slot.number} is read-only, and the VMM emulates no device that takes writes "
            "there"
        )
    return None


def _guest_memfd_closed(f: AccessFacts) -> Broken | None:
    if not f.host.offers(KVM_CAP_GUEST_MEMFD):
        return None
    if f.slot is None or f.slot.guest_memfd is None or not f.slot.guest_memfd.closed:
        return None
    return known(f"the guest_memfd of slot {f.slot.number} was closed")


def _guest_memfd_missing(f: AccessFacts) -> Broken | None:
    if not f.private or (slot := f.host_slot) is None:
        return None
    why = (
        f"the guest accesses slot {slot.number} as private, and the slot has no guest_memfd: "
        "register it with one"
    )
    # If the attributes say shared, KVM fails before it looks at the slot.
    return inferred(why) if f.known_page_private is None else known(why)


def _hva_unmapped(f: AccessFacts) -> Broken | None:
    if (slot := f.host_slot) is None or f.area is not None:
        return None
    return known(f"nothing is mapped at HVA {f.page:#x}, behind slot {slot.number}")


def _hva_no_access(f: AccessFacts) -> Broken | None:
    if f.area is None or f.area_allows(PROT_READ):
        return None
    return known(f"HVA {f.page:#x} is not readable (mapped {f.area.perms})")


def _hva_read_only(f: AccessFacts) -> Broken | None:
    if f.area is None or f.area_allows(PROT_WRITE):
        return None
    if f.slot is not None and f.slot.readonly:
        return None
    if not f.writes:
        return None
    return known(f"HVA {f.page:#x} is not writable (mapped {f.area.perms})")


def _device_memory_off(f: AccessFacts) -> Broken | None:
    if f.area is None or (failure := f.backing_failure) is None:
        return None
    return known(f"{failure}: an access to {f.backing_name} raises SIGBUS")


def _secret_memory(f: AccessFacts) -> Broken | None:
    if f.area is None or not f.area.path.startswith("/secretmem"):
        return None
    return known(
        f"HVA {f.page:#x} is a memfd_secret, which get_user_pages rejects: no guest can use it"
    )


def _vma_replaced(f: AccessFacts) -> Broken | None:
    if f.host_slot is None or f.area is None or not f.replaced:
        return None
    return inferred(
        f"{f.area.path or 'anonymous memory'} was mapped over HVA {f.page:#x} in place of what "
        "pyvmm had mapped there"
    )


# 0 beside EFAULT: where x86 emulates the instruction, a failed access becomes KVM_EXIT_MMIO
# (emulator_read_write_onepage in arch/x86/kvm/x86.c).
_ACCESS = (errno.EFAULT, 0)
_EFAULT = (errno.EFAULT,)

_ABORT = "kvm_handle_guest_abort (arch/arm64/kvm/mmu.c)"
_USER_MEM = "user_mem_abort (arch/arm64/kvm/mmu.c), kvm_handle_error_pfn (arch/x86/kvm/mmu/mmu.c)"
_GUP = "check_vma_flags (mm/gup.c) through hva_to_pfn (virt/kvm/kvm_main.c)"
_USERFAULT = "handle_userfault (mm/userfaultfd.c, formerly fs/userfaultfd.c)"
_PKVM = "pkvm_mem_abort (arch/arm64/kvm/mmu.c)"
_REMAPPED = "hva_to_pfn_remapped (virt/kvm/kvm_main.c)"

_VFIO_SIGBUS = " or ".join(
    f"{function} VM_FAULT_SIGBUS"
    for function in (
        *("vfio_pci_mmap_huge_fault", "vfio_pci_mmap_page_fault", "vfio_pci_mmap_fault"),
        *("nvgrace_gpu_vfio_pci_huge_fault", "nvgrace_gpu_vfio_pci_fault"),
    )
)

CONDITIONS: tuple[Condition[AccessFacts], ...] = (
    *vcpu.CONDITIONS,
    Condition(
        "external-abort",
        (0,),
        "kvm_handle_guest_sea (arch/arm64/kvm/mmu.c)",
        "the memory or device did not respond",
        _external_abort,
        arch="arm64",
        evidence=("KVM_EXIT_ARM_SEA",),
    ),
    Condition(
        "poison-marker",
        (EHWPOISON, 0),
        "handle_pte_marker (mm/memory.c) through hva_to_pfn (virt/kvm/kvm_main.c)",
        "UFFDIO_POISON or a failed swap-in poisoned the page",
        host_fault.poison_marker,
        remedies=("fresh_page",),
        evidence=("hva_to_pfn KVM_PFN_ERR_HWPOISON",),
    ),
    Condition(
        "hardware-poison",
        (EHWPOISON, 0),
        "kvm_send_hwpoison_signal (arch/arm64/kvm/mmu.c)",
        "the hardware reported an error in the memory",
        _hardware_poison,
        remedies=("fresh_page",),
        evidence=("hva_to_pfn KVM_PFN_ERR_HWPOISON",),
    ),
    Condition(
        "mmio-no-syndrome",
        (errno.ENOSYS, 0),
        "io_mem_abort (arch/arm64/kvm/mmio.c)",
        "the access's syndrome does not describe it (ESR_EL2.ISV is 0); KVM_CAP_ARM_NISV_TO_USER "
        "turns it into an exit",
        _no_syndrome,
        arch="arm64",
        remedies=("emulate_instruction",),
        evidence=("KVM_EXIT_ARM_NISV or KVM_EXIT_ARM_LDST64B or io_mem_abort -ENOSYS",),
    ),
    Condition(
        "memory-attributes",
        _ACCESS,
        "kvm_mmu_faultin_pfn (arch/x86/kvm/mmu/mmu.c)",
        "the guest accesses private memory as shared, or shared as private",
        _memory_attributes,
        remedies=("convert",),
        evidence=Unseen("KVM on arm64 has no memory attributes, and x86 is not probed"),
    ),
    Condition(
        "outside-memslots",
        _ACCESS,
        "io_mem_abort (arch/arm64/kvm/mmio.c), handle_mmio_page_fault (arch/x86/kvm/mmu/mmu.c)",
        "no memslot backs the GPA",
        _outside_memslots,
        remedies=("empty_bus",),
        evidence=("KVM_EXIT_MMIO or KVM_EXIT_ARM_NISV or KVM_EXIT_ARM_LDST64B",),
    ),
    Condition(
        "guest-memfd-closed",
        _ACCESS,
        "kvm_gmem_get_pfn (virt/kvm/guest_memfd.c)",
        "the guest_memfd behind the memslot was closed",
        _guest_memfd_closed,
        remedies=("new_guest_memfd",),
        evidence=("kvm_gmem_get_pfn -EFAULT",),
    ),
    Condition(
        "guest-memfd-missing",
        _ACCESS,
        "kvm_mmu_faultin_pfn_gmem (arch/x86/kvm/mmu/mmu.c)",
        "the guest accesses the memory as private, and the memslot has no guest_memfd",
        _guest_memfd_missing,
        arch="x86_64",
        evidence=Unseen("only x86 fails this way, and it is not probed"),
    ),
    Condition(
        "protected-not-swap-backed",
        (errno.EIO,),
        _PKVM,
        "the memory of a protected guest is a file's page cache or hugetlb",
        protected.not_swap_backed,
        arch="arm64",
        evidence=("pkvm_mem_abort -EIO or kvm_handle_guest_abort -EIO",),
    ),
    Condition(
        "protected-memory-locked",
        (errno.ENOMEM,),
        "account_locked_vm (mm/util.c) through pkvm_mem_abort (arch/arm64/kvm/mmu.c)",
        "the memory of a protected guest exceeds RLIMIT_MEMLOCK",
        protected.memory_locked,
        arch="arm64",
        evidence=("account_locked_vm -ENOMEM",),
    ),
    Condition(
        "hva-unmapped",
        _ACCESS,
        _USER_MEM,
        "nothing is mapped behind the memslot",
        _hva_unmapped,
        remedies=("restore", "emulate"),
        evidence=("user_mem_abort -EFAULT", "log: Failed to find VMA"),
    ),
    Condition(
        "hva-no-access",
        _ACCESS,
        _GUP,
        "the VMM cannot read the memory behind the memslot",
        _hva_no_access,
        remedies=("protect", "emulate"),
        evidence=("check_vma_flags -EFAULT", "hva_to_pfn KVM_PFN_ERR_FAULT"),
    ),
    Condition(
        "hva-read-only",
        _ACCESS,
        _GUP,
        "a write, and the VMM cannot write the memory behind the memslot",
        _hva_read_only,
        remedies=("protect", "emulate"),
        evidence=("check_vma_flags -EFAULT", "hva_to_pfn KVM_PFN_ERR_FAULT"),
    ),
    Condition(
        "guard-region",
        _ACCESS,
        "handle_pte_marker (mm/memory.c) through hva_to_pfn (virt/kvm/kvm_main.c)",
        "the page behind the memslot is a guard region (MADV_GUARD_INSTALL)",
        host_fault.guard_region,
        remedies=("fresh_page",),
        evidence=("handle_mm_fault VM_FAULT_SIGSEGV", "hva_to_pfn KVM_PFN_ERR_FAULT"),
    ),
    Condition(
        "userfaultfd-missing",
        _ACCESS,
        _USERFAULT,
        "the page is missing, and a userfaultfd that raises SIGBUS watches it",
        host_fault.userfaultfd_missing,
        remedies=("fresh_page",),
        evidence=("handle_mm_fault VM_FAULT_SIGBUS", "hva_to_pfn KVM_PFN_ERR_FAULT"),
    ),
    # No remedy: only the owner of the userfaultfd lifts the protection, and it wants to see writes.
    Condition(
        "userfaultfd-wp",
        _ACCESS,
        _USERFAULT,
        "a write to a page that a userfaultfd write-protects, and that raises SIGBUS",
        host_fault.userfaultfd_wp,
        evidence=("handle_mm_fault VM_FAULT_SIGBUS", "hva_to_pfn KVM_PFN_ERR_FAULT"),
    ),
    Condition(
        "device-memory-off",
        _ACCESS,
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
        pfnmap.device_unaligned,
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
        pfnmap.device_atomic,
        arch="arm64",
        remedies=("emulate_aligned",),
        evidence=("kvm_handle_guest_abort -EFAULT", "log: Unsupported FSC"),
    ),
    Condition(
        "pfnmap-not-writable",
        _EFAULT,
        _REMAPPED,
        "a write to PFNMAP memory whose host PTE is still read-only",
        pfnmap.pfnmap_not_writable,
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
        pfnmap.cacheable_pfnmap,
        arch="arm64",
        remedies=("copy", "restore_replaced", "emulate_region"),
        evidence=("user_mem_abort -EFAULT",),
    ),
    Condition(
        "memory-tagging",
        _EFAULT,
        "kvm_s2_fault_compute_prot, formerly user_mem_abort (arch/arm64/kvm/mmu.c)",
        "the VM has KVM_CAP_ARM_MTE enabled, and the memory cannot hold tags",
        pfnmap.memory_tagging,
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
        pfnmap.device_not_ready,
        remedies=("emulate_region",),
        evidence=(_VFIO_SIGBUS,),
    ),
    Condition(
        "file-truncated",
        _ACCESS,
        "shmem_fault (mm/shmem.c), filemap_fault (mm/filemap.c)",
        "the file behind the memslot was truncated",
        host_fault.file_truncated,
        remedies=("extend_file",),
        evidence=("shmem_fault VM_FAULT_SIGBUS or filemap_fault VM_FAULT_SIGBUS",),
    ),
    # No remedy: space comes only from the administrator.
    Condition(
        "file-system-full",
        _ACCESS,
        "shmem_fault (mm/shmem.c), the file system's page_mkwrite",
        "the file behind the memslot has a hole, and its file system is full (ENOSPC)",
        host_fault.file_system_full,
        evidence=("handle_mm_fault VM_FAULT_SIGBUS", "hva_to_pfn KVM_PFN_ERR_FAULT"),
    ),
    Condition(
        "hugetlb-pool-empty",
        _ACCESS,
        "hugetlb_no_page (mm/hugetlb.c)",
        "the memory is hugetlb without a reservation, and the pool has no free page",
        host_fault.hugetlb_pool_empty,
        evidence=("hugetlb_fault VM_FAULT_SIGBUS", "hva_to_pfn KVM_PFN_ERR_FAULT"),
    ),
    Condition(
        "memory-cgroup-limit",
        (*_ACCESS, errno.ENOMEM),
        "mem_cgroup_charge (mm/memcontrol.c) through hva_to_pfn (virt/kvm/kvm_main.c)",
        "a control group of the VMM has reached memory.max, and nothing in it can be killed",
        host_fault.memory_cgroup_limit,
        remedies=("retry",),
        evidence=(
            "handle_mm_fault VM_FAULT_OOM or kvm_handle_guest_abort -ENOMEM or "
            "pkvm_create_hyp_vm -ENOMEM",
        ),
    ),
    Condition(
        "protected-reclaimed",
        _EFAULT,
        _PKVM,
        "a page of a protected guest cannot be pinned, or was taken from it",
        protected.reclaimed,
        arch="arm64",
        evidence=("pkvm_pgtable_stage2_map -EFAULT",),
    ),
    Condition(
        "protected-device-memory",
        (errno.EINVAL, errno.EPERM),
        "check_range_allowed_memory (arch/arm64/kvm/hyp/nvhe/mem_protect.c)",
        "the memory is device memory (PFNMAP), and KVM is in protected mode",
        protected.device_memory,
        arch="arm64",
        remedies=("emulate_region", "copy"),
        evidence=("pkvm_pgtable_stage2_map -EINVAL or pkvm_pgtable_stage2_map -EPERM",),
    ),
    Condition(
        REPLACED,
        _ACCESS,
        _GUP,
        "another mapping replaced the one behind the memslot",
        _vma_replaced,
        remedies=("restore",),
        evidence=("check_vma_flags -EFAULT", "hva_to_pfn KVM_PFN_ERR_FAULT"),
    ),
    Condition(
        "secret-memory",
        _ACCESS,
        _GUP,
        "the memory behind the memslot is a memfd_secret",
        _secret_memory,
        evidence=("check_vma_flags -EFAULT", "hva_to_pfn KVM_PFN_ERR_FAULT"),
    ),
)
