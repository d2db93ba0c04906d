# SPDX-License-Identifier: GPL-2.0-only
"""The verdict on a kernel path: the conditions that it fits, by rules on the path alone.

The names are those of `pyvmm.why`, whose conditions rest on what user space sees. The rules follow
arch/arm64/kvm/mmu.c, virt/kvm/kvm_main.c and mm/. Several names mean that the path is the same.
"""

import re
from collections.abc import Callable, Iterator
from mmap import PAGESIZE

from pyvmm.provenance.chain import KernelPath, Request
from pyvmm.uapi.kvm import KVM_MEM_GUEST_MEMFD, KVM_RUN

_VM_READ, _VM_WRITE = 1, 2
_NO_SYNDROME = ("KVM_EXIT_ARM_NISV", "KVM_EXIT_ARM_LDST64B")
_FSC = 0x3F  # ESR_ELx_FSC
_UNSUPPORTED_FSC = {0x21: ("device-unaligned",), 0x35: ("device-atomic",)}
_OUT_OF_MEMORY = frozenset(("VM_FAULT_OOM", "-ENOMEM"))
_SIGBUS = "VM_FAULT_SIGBUS"
_DEVICE_FAULTS = (
    *("vfio_pci_mmap_huge_fault", "vfio_pci_mmap_page_fault", "vfio_pci_mmap_fault"),
    *("nvgrace_gpu_vfio_pci_huge_fault", "nvgrace_gpu_vfio_pci_fault"),
)
_USER_SPACE = 1 << 48  # bytes; without a hint, mmap(2) returns nothing above it
_MAX_PAGES = (1 << 31) - 1  # KVM_MEM_MAX_NR_PAGES
_BY_ARCH = (
    *("guest-memfd-not-mappable", "memory-tagging", "dirty-log-of-pfnmap"),
    "cacheable-pfnmap-unsupported",
)
_BY_GMEM = (
    *("not-a-guest-memfd", "guest-memfd-of-another-vm", "guest-memfd-too-short"),
    "guest-memfd-bound",
)
# By the result of KVM_SET_USER_MEMORY_REGION, whatever returned it first.
_BY_ERRNO = {
    "-EIO": ("another-process", "vm-dead"),
    "-ENOMEM": ("out-of-memory",),
    "-EPERM": ("protected-vm",),
    "-EBADF": ("guest-memfd-bad-descriptor",),
}
# kvm_vgic_map_resources, called by kvm_arch_vcpu_run_pid_change.
_BY_VGIC = {"-ENXIO": ("vgic-not-placed",), "-EBUSY": ("vgic-not-initialised",)}


def verdict(path: KernelPath) -> tuple[str, ...]:
    """Return the names of the conditions that the path fits; none if no rule knows the path."""
    rules = _RUN if path.ioctl == KVM_RUN.name else _REGISTRATION
    return next((names for rule in rules if (names := tuple(rule(path)))), ())


def _results(path: KernelPath) -> dict[str, str]:
    return {step.function: step.result for step in path.causes}


def _exits(path: KernelPath) -> Iterator[str]:
    if path.result == "KVM_EXIT_ARM_SEA":
        yield "external-abort"
    if path.result in _NO_SYNDROME:
        yield from ("mmio-no-syndrome", "outside-memslots")  # KVM does not know the VMM's devices
    if path.result == "KVM_EXIT_MMIO":
        yield "outside-memslots"
    if path.shows("io_mem_abort -ENOSYS"):
        yield "mmio-no-syndrome"


def _poison(path: KernelPath) -> Iterator[str]:
    # A marker of UFFDIO_POISON and an entry of a poisoned page give the same error.
    if any("HWPOISON" in step.result for step in path.causes):
        yield from ("hardware-poison", "poison-marker")


def _before_the_guest(path: KernelPath) -> Iterator[str]:
    results = _results(path)
    run = results.get("kvm_arch_vcpu_run_pid_change")
    if run == "-ENOEXEC":
        yield "vcpu-not-initialised"
    elif run == "-EPERM":
        yield "vcpu-not-finalised"
    elif run == "-EINVAL":
        if "kvm_arm_pmu_v3_enable" not in results:
            yield "vgic-overlap"
        if "vgic_v3_map_resources" not in results:
            yield "pmu-not-initialised"
    elif run in _BY_VGIC:
        yield from _BY_VGIC[run]
    elif path.result == "-EINTR":
        yield "signal"
    elif path.result == "-EIO" and len(path.causes) == 1:
        yield from ("another-process", "vm-dead")


def _protected_guest(path: KernelPath) -> Iterator[str]:
    results = _results(path)
    if results.get("account_locked_vm") == "-ENOMEM":
        yield "protected-memory-locked"
    elif "-EIO" in (results.get("pkvm_mem_abort"), results.get("kvm_handle_guest_abort")):
        yield "protected-not-swap-backed"
    elif results.get("pkvm_pgtable_stage2_map") == "-EFAULT":
        yield "protected-reclaimed"
    elif results.get("pkvm_pgtable_stage2_map") in ("-EINVAL", "-EPERM"):
        yield "protected-device-memory"


def _guest_memfd(path: KernelPath) -> Iterator[str]:
    if _results(path).get("kvm_gmem_get_pfn") == "-EFAULT":
        yield "guest-memfd-closed"


def _unsupported(path: KernelPath) -> Iterator[str]:
    if path.fault and path.shows("log: Unsupported FSC"):
        yield from _UNSUPPORTED_FSC.get(path.fault.esr & _FSC, ())


def _no_vma(path: KernelPath) -> Iterator[str]:
    if path.shows("log: Failed to find VMA"):
        yield "hva-unmapped"


def _page(path: KernelPath) -> Iterator[str]:
    results = _results(path)
    if "KVM_PFN_ERR_RO_FAULT" in results.values():
        yield "pfnmap-not-writable"
    elif any(results.get(name) == _SIGBUS for name in _DEVICE_FAULTS):
        yield from ("device-memory-off", "device-not-ready")
    elif results.get("handle_userfault") == _SIGBUS:
        yield from _userfault(path)
    elif _OUT_OF_MEMORY & {*results.values()}:
        yield "memory-cgroup-limit"
    elif "-ENOSPC" in results.values():
        yield "file-system-full"
    elif _SIGBUS in (results.get("hugetlb_fault"), results.get("hugetlb_no_page")):
        yield "hugetlb-pool-empty"
    elif _SIGBUS in (results.get("shmem_fault"), results.get("filemap_fault")):
        yield "file-truncated"
    elif _SIGBUS in results.values():
        yield "file-system-full"  # page_mkwrite, of any file system
    elif "VM_FAULT_SIGSEGV" in results.values():
        yield "guard-region"
    elif results.get("check_vma_flags") == "-EFAULT":
        yield from _vma_flags(path)


def _userfault(path: KernelPath) -> Iterator[str]:
    """Yield the reasons for which a userfaultfd raises SIGBUS, by the caller if it is known."""
    caller = next(step.caller for step in path.causes if step.function == "handle_userfault")
    if caller not in ("do_wp_page", "hugetlb_wp"):
        yield "userfaultfd-missing"
    if caller not in ("do_anonymous_page", "do_huge_pmd_anonymous_page", "shmem_get_folio_gfp"):
        yield "userfaultfd-wp"


def _vma_flags(path: KernelPath) -> Iterator[str]:
    """Yield the reasons for which check_vma_flags rejects a VMA; with BTF, the one that it had."""
    write = bool(path.fault and path.fault.access == "write")
    recorded = next(s.recorded for s in path.causes if s.function == "check_vma_flags")
    flags = re.search(r"vm_flags=(0x[0-9a-f]+)", recorded)
    vm_flags = int(flags[1], 16) if flags else 0
    if not vm_flags & _VM_READ:
        yield "hva-no-access"
    if write and not vm_flags & _VM_WRITE:
        yield "hva-read-only"
    if not flags or "secretmem" in recorded:
        yield from ("vma-replaced", "secret-memory")


def _after_the_page(path: KernelPath) -> Iterator[str]:
    # Its caller, where the compiler inlined it.
    if not path.log and str(path.decided_by) in (
        *("user_mem_abort -EFAULT", "kvm_s2_fault_pin_pfn -EFAULT"),
        "kvm_handle_guest_abort -EFAULT",
    ):
        yield from ("cacheable-pfnmap-unsupported", "memory-tagging")
    if str(path.decided_by) == "kvm_s2_fault_compute_prot -EFAULT":
        yield "memory-tagging"


def _registration(path: KernelPath) -> Iterator[str]:
    decided = path.decided_by
    function = decided.function if decided else ""
    if path.result == "-EEXIST":
        yield "guest-memfd-bound" if "gmem" in function else "overlap"
    elif path.result in _BY_ERRNO:
        yield from _BY_ERRNO[path.result]
    elif function == "kvm_arch_prepare_memory_region":
        yield from ("beyond-ipa-size",) if path.result == "-EFAULT" else _BY_ARCH
    elif "gmem" in function:
        yield from _BY_GMEM
    elif function.endswith("set_memory_region"):
        yield from _argument(path.request)
    elif path.result == "-EINVAL":  # kvm_vm_ioctl, or what is inlined in it
        yield from ("region2-unsupported", "slot-number")
        yield from _argument(path.request)


def _argument(region: Request | None) -> Iterator[str]:
    """Yield what kvm_set_memory_region may reject in the argument that it received."""
    if region is None:
        return
    pages = region.size // PAGESIZE
    broken = {
        "size-unaligned": region.size % PAGESIZE,
        "gpa-unaligned": region.gpa % PAGESIZE,
        "hva-unaligned": region.hva % PAGESIZE,
        "hva-outside-user-space": region.hva + region.size > _USER_SPACE,
        "address-space": region.slot >> 16,
        "gpa-wraps": region.gpa + region.size >> 64,
        "too-large": pages > _MAX_PAGES,
        "no-such-slot": not pages,
    }
    yield from (name for name, is_broken in broken.items() if is_broken)
    if region.flags:
        yield "flags"
    if region.flags & KVM_MEM_GUEST_MEMFD:
        yield "guest-memfd-offset"
    if not any(broken.values()):
        yield "changed-in-place"


Rule = Callable[[KernelPath], Iterator[str]]
_RUN: tuple[Rule, ...] = (
    _exits,
    _poison,
    _before_the_guest,
    _protected_guest,
    _guest_memfd,
    _unsupported,
    _no_vma,
    _page,
    _after_the_page,
)
_REGISTRATION: tuple[Rule, ...] = (_registration,)
