# SPDX-License-Identifier: GPL-2.0-only
"""The kernel functions to probe, and how to decode what they return.

No kernel has all of them: some exist on some versions only, and a compiler inlines others.
"""

from dataclasses import dataclass
from enum import Enum

from pyvmm.errno_names import errno_name

# include/linux/kvm_host.h
_PFN_ERR = 0x7FF << 52
_PFN_ERRORS = ("FAULT", "HWPOISON", "RO_FAULT", "SIGPENDING", "NEEDS_IO")

# enum vm_fault_reason in include/linux/mm_types.h, without those that are no errors.
_VM_FAULTS = {1: "OOM", 2: "SIGBUS", 0x10: "HWPOISON", 0x20: "HWPOISON_LARGE", 0x40: "SIGSEGV"}


class Returns(Enum):
    """A return type: its name for a kretprobe, and the filter that keeps errors only."""

    ERRNO = "s32", "ret < 0 && ret >= -4095"
    PFN = "x64", f"ret >= {_PFN_ERR:#x} && ret <= 0x7fffffffffffffff"
    VM_FAULT = "u32", f"ret & {sum(_VM_FAULTS):#x}"

    @property
    def fetch(self) -> str:
        """Return the type of ``$retval`` in a probe's definition."""
        return self.value[0]

    @property
    def filter(self) -> str:
        """Return the filter of the probe's event."""
        return self.value[1]

    def decode(self, value: int) -> str:
        """Return the kernel's name of an error: "-EFAULT", "VM_FAULT_SIGBUS", …."""
        match self:
            case Returns.ERRNO:
                return f"-{errno_name(-value)}"
            case Returns.PFN:
                known = value - _PFN_ERR < len(_PFN_ERRORS)
                name = _PFN_ERRORS[value - _PFN_ERR] if known else f"{value - _PFN_ERR:#x}"
                return f"KVM_PFN_ERR_{name}"
            case Returns.VM_FAULT:
                return "|".join(f"VM_FAULT_{n}" for bit, n in _VM_FAULTS.items() if value & bit)


@dataclass(frozen=True)
class Function:
    """A kernel function to probe at its return.

    Attributes:
        argument: an argument to record too, by its names in BTF; omitted without BTF.
    """

    name: str
    returns: Returns
    argument: str = ""


@dataclass(frozen=True)
class Entry:
    """A kernel function to probe at its entry.

    Attributes:
        event: the event's name.
        fetches: what to record; the first form that the kernel accepts is used.
    """

    event: str
    function: str
    fetches: tuple[str, ...]


_ERRNO = (
    # virt/kvm/kvm_main.c: the ioctls and memslots
    *("kvm_vcpu_ioctl", "kvm_vm_ioctl", "kvm_vm_ioctl_set_memory_region"),
    *("kvm_set_memory_region", "__kvm_set_memory_region", "kvm_set_memslot"),
    *("kvm_arch_prepare_memory_region", "kvm_prepare_memory_region"),
    # virt/kvm/guest_memfd.c
    *("kvm_gmem_bind", "kvm_gmem_prepare_memory_region", "kvm_gmem_commit_memory_region"),
    *("kvm_gmem_get_pfn", "__kvm_gmem_get_pfn"),
    # arch/arm64/kvm: the run, its first entry, its vGIC, its faults
    *("kvm_arch_vcpu_ioctl_run", "kvm_arch_vcpu_run_pid_change", "handle_exit"),
    *("kvm_vgic_map_resources", "vgic_v3_map_resources", "vgic_v2_map_resources", "vgic_init"),
    *("kvm_vgic_dist_init", "vgic_register_dist_iodev", "vgic_register_all_redist_iodevs"),
    *("kvm_handle_guest_abort", "user_mem_abort", "gmem_abort", "pkvm_mem_abort", "io_mem_abort"),
    *("kvm_s2_fault_get_vma_info", "kvm_s2_fault_pin_pfn", "kvm_s2_fault_compute_prot"),
    *("kvm_s2_fault_map", "kvm_pgtable_stage2_map", "pkvm_pgtable_stage2_map"),
    *("kvm_mmu_topup_memory_cache", "topup_hyp_memcache", "account_locked_vm"),
    *("pkvm_create_hyp_vm", "kvm_arm_pmu_v3_enable", "kvm_timer_enable"),
    # The host page: mm/gup.c, mm/memory.c, mm/shmem.c, mm/memcontrol.c
    *("hva_to_pfn_remapped", "get_user_pages_unlocked", "pin_user_pages", "__get_user_pages"),
    *("__get_user_pages_locked", "__gup_longterm_locked"),
    *("faultin_page", "fixup_user_fault", "follow_pfnmap_start", "follow_pte"),
    *("shmem_get_folio_gfp", "shmem_get_page_gfp", "shmem_alloc_and_add_folio"),
    *("__mem_cgroup_charge", "try_charge_memcg"),
)
_PFN = ("__kvm_faultin_pfn", "kvm_follow_pfn", "hva_to_pfn", "__gfn_to_pfn_memslot")
_VM_FAULT = (
    *("handle_mm_fault", "__handle_mm_fault", "handle_pte_fault", "do_pte_missing", "do_fault"),
    *("do_read_fault", "do_shared_fault", "do_cow_fault", "__do_fault"),
    *("do_anonymous_page", "do_swap_page", "do_wp_page", "handle_pte_marker", "handle_userfault"),
    *("do_huge_pmd_anonymous_page", "hugetlb_fault", "hugetlb_no_page", "hugetlb_wp"),
    *("shmem_fault", "filemap_fault", "secretmem_fault", "special_mapping_fault"),
    *("kvm_gmem_fault", "kvm_gmem_fault_user_mapping", "udmabuf_vm_fault"),
    *("drm_gem_shmem_fault", "drm_gem_shmem_any_fault", "drm_gem_shmem_try_map_pmd"),
    *("vfio_pci_mmap_fault", "vfio_pci_mmap_page_fault", "vfio_pci_mmap_huge_fault"),
    *("nvgrace_gpu_vfio_pci_fault", "nvgrace_gpu_vfio_pci_huge_fault"),
)

FUNCTIONS = (
    *(Function(name, Returns.ERRNO) for name in _ERRNO),
    Function("check_vma_flags", Returns.ERRNO, "vm_flags=vma->vm_flags:x64 ops=vma->vm_ops:symbol"),
    *(Function(name, Returns.PFN) for name in _PFN),
    *(Function(name, Returns.VM_FAULT) for name in _VM_FAULT),
)
RETURNS = {each.name: each.returns for each in FUNCTIONS}

# struct kvm_userspace_memory_region, and the memslot of an access.
_REGION = "slot=+u0($arg3):u32 flags=+u4($arg3):x32 gpa=+u8($arg3):x64 size=+u16($arg3):x64"
_SLOT = "slot={0}id:u16 base={0}base_gfn:u64 pages={0}npages:u64 hva={0}userspace_addr:x64"

ENTRIES = (
    Entry("vm_ioctl", "kvm_vm_ioctl", (f"cmd=$arg2:x32 {_REGION} hva=+u24($arg3):x64",)),
    Entry("vcpu_ioctl", "kvm_vcpu_ioctl", ("cmd=$arg2:x32",)),
    Entry("pinned", "get_user_pages_unlocked", ("hva=$arg1:x64",)),
    Entry("fixed_up", "fixup_user_fault", ("hva=$arg2:x64",)),
    # By the names of BTF; newer kernels pass a struct.
    Entry("slot", "user_mem_abort", (_SLOT.format("s2fd->memslot->"), _SLOT.format("memslot->"))),
)
