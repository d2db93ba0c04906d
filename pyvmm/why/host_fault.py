# SPDX-License-Identifier: GPL-2.0-only
"""The conditions of ``KVM_RUN`` on a page that handle_mm_fault does not fault in.

hva_to_pfn (virt/kvm/kvm_main.c) gets VM_FAULT_SIGBUS and VM_FAULT_OOM through get_user_pages as
EFAULT and ENOMEM, and turns both into KVM_PFN_ERR_FAULT: the same bare EFAULT.
"""

import errno

from pyvmm.units import size
from pyvmm.why.condition import ACCESS_ERRNOS, Broken, Condition, inferred, known
from pyvmm.why.facts import AccessFacts


def poison_marker(f: AccessFacts) -> Broken | None:
    """Test for a PTE marker that stands for a poisoned page."""
    if f.host_slot is None or f.area is None or not f.page_state.poison_marker:
        return None
    return known(f"a PTE marker poisons HVA {f.page:#x}: UFFDIO_POISON set it, or swap-in failed")


def _guard_region(f: AccessFacts) -> Broken | None:
    """Test for a guard region."""
    if f.host_slot is None or f.area is None:
        return None
    if f.page_state.guard:
        return known(f"HVA {f.page:#x} is a guard region: madvise(MADV_GUARD_INSTALL) made it one")
    return None


def _userfaultfd_missing(f: AccessFacts) -> Broken | None:
    """Test for a page that only the owner of a userfaultfd provides."""
    if f.host_slot is None or f.area is None or not f.waits_for_userfaultfd:
        return None
    return inferred(
        f"HVA {f.page:#x} has no page, and its VMA is registered with a userfaultfd: KVM_RUN fails "
        "if that has UFFD_FEATURE_SIGBUS or UFFD_USER_MODE_ONLY; otherwise it waits for "
        "UFFDIO_COPY"
    )


def _userfaultfd_wp(f: AccessFacts) -> Broken | None:
    """Test for a write to a page that a userfaultfd write-protects."""
    if f.host_slot is None or f.area is None or not f.page_state.uffd:
        return None
    if f.vma is None or "uw" not in f.vma.flags or not f.writes:
        return None
    return inferred(
        f"a userfaultfd write-protects HVA {f.page:#x}: KVM_RUN fails if that has "
        "UFFD_FEATURE_SIGBUS or UFFD_USER_MODE_ONLY; otherwise it waits for UFFDIO_WRITEPROTECT"
    )


def _file_truncated(f: AccessFacts) -> Broken | None:
    """Test for a page beyond the end of its file."""
    if f.host_slot is None or f.area is None or f.file is None:
        return None
    if f.file_offset < f.file.size or f.readable:
        return None
    return known(
        f"the file behind HVA {f.page:#x} ends at byte {f.file.size:#x}, before the page at byte "
        f"{f.file_offset:#x}: an access raises SIGBUS"
    )


def _file_system_full(f: AccessFacts) -> Broken | None:
    """Test for a hole of a file whose file system has no free block."""
    if f.host_slot is None or f.area is None or f.file is None:
        return None
    if not (f.file.hole and f.file.full) or f.readable:
        return None
    return known(
        f"the file behind HVA {f.page:#x} has no data at byte {f.file_offset:#x}, and its file "
        "system is full: an access raises SIGBUS"
    )


def _hugetlb_pool_empty(f: AccessFacts) -> Broken | None:
    """Test for a huge page that the pool does not have."""
    if f.host_slot is None or f.area is None or f.page_state.present:
        return None
    if f.vma is None or f.hugetlb_pool is None or not f.hugetlb_pool.empty or f.readable:
        return None
    pages = size(f.vma.page_size)
    return inferred(
        f"HVA {f.page:#x} has no page, and the pool of {pages} pages is empty: "
        f"{f.hugetlb_pool.free} are free, {f.hugetlb_pool.reserved} of them reserved"
    )


def _memory_cgroup_limit(f: AccessFacts) -> Broken | None:
    """Test for a page that the control group's memory limit does not allow."""
    if (limit := f.memory_limit) is None:
        return None
    reached = (
        f"allocations failed at the memory.max of control group {limit.path}, {limit.maximum:#x} "
        f"bytes ({limit.failures} times: oom in memory.events)"
    )
    if f.errno == errno.ENOMEM:  # KVM's own memory, such as stage-2 tables
        return inferred(reached)
    if f.host_slot is None or f.area is None or f.page_state.present or f.page_state.swapped:
        return None
    return None if f.by_pfn else inferred(f"HVA {f.page:#x} has no page, and {reached}")


_USERFAULT = "handle_userfault (mm/userfaultfd.c, formerly fs/userfaultfd.c)"

_BY_SIGBUS = ("handle_mm_fault VM_FAULT_SIGBUS", "hva_to_pfn KVM_PFN_ERR_FAULT")

# Of a PTE marker, or of a userfaultfd.
MARKED_PAGES: tuple[Condition[AccessFacts], ...] = (
    Condition(
        "guard-region",
        ACCESS_ERRNOS,
        "handle_pte_marker (mm/memory.c) through hva_to_pfn (virt/kvm/kvm_main.c)",
        "the page behind the memslot is a guard region (MADV_GUARD_INSTALL)",
        _guard_region,
        remedies=("fresh_page",),
        evidence=("handle_mm_fault VM_FAULT_SIGSEGV", "hva_to_pfn KVM_PFN_ERR_FAULT"),
    ),
    Condition(
        "userfaultfd-missing",
        ACCESS_ERRNOS,
        _USERFAULT,
        "the page is missing, and a userfaultfd that raises SIGBUS watches it",
        _userfaultfd_missing,
        remedies=("fresh_page",),
        evidence=_BY_SIGBUS,
    ),
    # No remedy: only the owner of the userfaultfd lifts the protection, and it wants to see writes.
    Condition(
        "userfaultfd-wp",
        ACCESS_ERRNOS,
        _USERFAULT,
        "a write to a page that a userfaultfd write-protects, and that raises SIGBUS",
        _userfaultfd_wp,
        evidence=_BY_SIGBUS,
    ),
)

# Of the file, pool or control group that the page comes from.
BACKING: tuple[Condition[AccessFacts], ...] = (
    Condition(
        "file-truncated",
        ACCESS_ERRNOS,
        "shmem_fault (mm/shmem.c), filemap_fault (mm/filemap.c)",
        "the file behind the memslot was truncated",
        _file_truncated,
        remedies=("extend_file",),
        evidence=("shmem_fault VM_FAULT_SIGBUS or filemap_fault VM_FAULT_SIGBUS",),
    ),
    # No remedy: space comes only from the administrator.
    Condition(
        "file-system-full",
        ACCESS_ERRNOS,
        "shmem_fault (mm/shmem.c), the file system's page_mkwrite",
        "the file behind the memslot has a hole, and its file system is full (ENOSPC)",
        _file_system_full,
        evidence=_BY_SIGBUS,
    ),
    Condition(
        "hugetlb-pool-empty",
        ACCESS_ERRNOS,
        "hugetlb_no_page (mm/hugetlb.c)",
        "the memory is hugetlb without a reservation, and the pool has no free page",
        _hugetlb_pool_empty,
        evidence=("hugetlb_fault VM_FAULT_SIGBUS", "hva_to_pfn KVM_PFN_ERR_FAULT"),
    ),
    Condition(
        "memory-cgroup-limit",
        (*ACCESS_ERRNOS, errno.ENOMEM),
        "mem_cgroup_charge (mm/memcontrol.c) through hva_to_pfn (virt/kvm/kvm_main.c)",
        "a control group of the VMM has reached memory.max, and nothing in it can be killed",
        _memory_cgroup_limit,
        remedies=("retry",),
        evidence=(
            "handle_mm_fault VM_FAULT_OOM or kvm_handle_guest_abort -ENOMEM or "
            "pkvm_create_hyp_vm -ENOMEM",
        ),
    ),
)
