# SPDX-License-Identifier: GPL-2.0-only
"""The conditions of ``KVM_RUN`` on a page that handle_mm_fault does not fault in.

hva_to_pfn (virt/kvm/kvm_main.c) gets VM_FAULT_SIGBUS and VM_FAULT_OOM through get_user_pages as
EFAULT and ENOMEM, and turns both into KVM_PFN_ERR_FAULT: the same bare EFAULT.
"""

import errno

from pyvmm.units import size
from pyvmm.why.condition import Broken, inferred, known
from pyvmm.why.facts import AccessFacts


def poison_marker(f: AccessFacts) -> Broken | None:
    """Test for a PTE marker that stands for a poisoned page."""
    if f.host_slot is None or not f.page_state.poison_marker:
        return None
    return known(f"a PTE marker poisons HVA {f.page:#x}: UFFDIO_POISON set it, or swap-in failed")


def guard_region(f: AccessFacts) -> Broken | None:
    """Test for a guard region."""
    if f.host_slot is None or f.area is None:
        return None
    if f.page_state.guard:
        return known(f"HVA {f.page:#x} is a guard region: madvise(MADV_GUARD_INSTALL) made it one")
    return None


def userfaultfd_missing(f: AccessFacts) -> Broken | None:
    """Test for a page that only the owner of a userfaultfd provides."""
    if f.host_slot is None or f.area is None or not f.waits_for_userfaultfd:
        return None
    return inferred(
        f"HVA {f.page:#x} has no page, and its VMA is registered with a userfaultfd: KVM_RUN fails "
        "if that has UFFD_FEATURE_SIGBUS or UFFD_USER_MODE_ONLY; otherwise it waits for "
        "UFFDIO_COPY"
    )


def userfaultfd_wp(f: AccessFacts) -> Broken | None:
    """Test for a write to a page that a userfaultfd write-protects."""
    if f.host_slot is None or f.area is None or not f.page_state.uffd:
        return None
    if f.vma is None or "uw" not in f.vma.flags or not f.writes:
        return None
    return inferred(
        f"a userfaultfd write-protects HVA {f.page:#x}: KVM_RUN fails if that has "
        "UFFD_FEATURE_SIGBUS or UFFD_USER_MODE_ONLY; otherwise it waits for UFFDIO_WRITEPROTECT"
    )


def file_truncated(f: AccessFacts) -> Broken | None:
    """Test for a page beyond the end of its file."""
    if f.host_slot is None or f.area is None or f.file is None:
        return None
    if f.file_offset < f.file.size or f.readable:
        return None
    return known(
        f"the file behind HVA {f.page:#x} ends at byte {f.file.size:#x}, before the page at byte "
        f"{f.file_offset:#x}: an access raises SIGBUS"
    )


def file_system_full(f: AccessFacts) -> Broken | None:
    """Test for a hole of a file whose file system has no free block."""
    if f.host_slot is None or f.area is None or f.file is None:
        return None
    if not (f.file.hole and f.file.full) or f.readable:
        return None
    return known(
        f"the file behind HVA {f.page:#x} has no data at byte {f.file_offset:#x}, and its file "
        "system is full: an access raises SIGBUS"
    )


def hugetlb_pool_empty(f: AccessFacts) -> Broken | None:
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


def memory_cgroup_limit(f: AccessFacts) -> Broken | None:
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
