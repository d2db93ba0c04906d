# SPDX-License-Identifier: GPL-2.0-only
"""The conditions of ``KVM_RUN`` on a host in protected mode (pKVM).

In pkvm_mem_abort (arch/arm64/kvm/mmu.c), KVM pins each page of a protected guest and takes it from
the host. The VMM does not know which page, since it must not read the guest's page tables.
"""

from pyvmm.why.condition import Broken, inferred
from pyvmm.why.facts import AccessFacts
from pyvmm.why.slot import need

_PROTECTED = "whether the guest is protected (KVM_VM_TYPE_ARM_PROTECTED)"


def not_swap_backed(f: AccessFacts) -> Broken | None:
    """Test for memory that is neither anonymous nor of a tmpfs or memfd."""
    if not need(f.protected, _PROTECTED):
        return None
    return inferred(
        "the memory behind the memslot is a file's page cache or hugetlb: a protected guest can "
        "have anonymous, tmpfs and memfd memory only"
    )


def memory_locked(f: AccessFacts) -> Broken | None:
    """Test for the limit of locked memory."""
    if not need(f.protected, _PROTECTED):
        return None
    return inferred(
        "each page of a protected guest counts as locked: raise RLIMIT_MEMLOCK (ulimit -l) or "
        "grant CAP_IPC_LOCK; or the kernel has no memory left for page tables"
    )


def reclaimed(f: AccessFacts) -> Broken | None:
    """Test for a page that the host took back."""
    if not need(f.protected, _PROTECTED):
        return None
    return inferred(
        "the memory behind the memslot cannot be pinned for writing, or a system call accessed a "
        "page of the protected guest, which took it from the guest and zeroed it"
    )


def device_memory(f: AccessFacts) -> Broken | None:
    """Test for device memory behind a memslot of any guest."""
    need(f.host.check, "a VM to ask for its capabilities (/dev/kvm)")
    if not f.host.may_protect_guests or f.area is None or not f.pfnmap:
        return None
    return inferred(
        f"{f.area.path or 'the memory'} behind the memslot is device memory (PFNMAP): in protected "
        "mode, KVM maps only the host's RAM for guests"
    )
