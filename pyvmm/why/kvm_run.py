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
from pyvmm.why import host_fault, pfnmap, protected, vcpu_conditions
from pyvmm.why.condition import ACCESS_ERRNOS, Broken, Condition, Unseen, inferred, known
from pyvmm.why.facts import AccessFacts
from pyvmm.why.slot import Absent, need

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


_USER_MEM = "user_mem_abort (arch/arm64/kvm/mmu.c), kvm_handle_error_pfn (arch/x86/kvm/mmu/mmu.c)"
_GUP = "check_vma_flags (mm/gup.c) through hva_to_pfn (virt/kvm/kvm_main.c)"
_PKVM = "pkvm_mem_abort (arch/arm64/kvm/mmu.c)"

_BY_VMA_FLAGS = ("check_vma_flags -EFAULT", "hva_to_pfn KVM_PFN_ERR_FAULT")

CONDITIONS: tuple[Condition[AccessFacts], ...] = (
    *vcpu_conditions.CONDITIONS,
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
        ACCESS_ERRNOS,
        "kvm_mmu_faultin_pfn (arch/x86/kvm/mmu/mmu.c)",
        "the guest accesses private memory as shared, or shared as private",
        _memory_attributes,
        remedies=("convert",),
        evidence=Unseen("KVM on arm64 has no memory attributes, and x86 is not probed"),
    ),
    Condition(
        "outside-memslots",
        ACCESS_ERRNOS,
        "io_mem_abort (arch/arm64/kvm/mmio.c), handle_mmio_page_fault (arch/x86/kvm/mmu/mmu.c)",
        "no memslot backs the GPA",
        _outside_memslots,
        remedies=("empty_bus",),
        evidence=("KVM_EXIT_MMIO or KVM_EXIT_ARM_NISV or KVM_EXIT_ARM_LDST64B",),
    ),
    Condition(
        "guest-memfd-closed",
        ACCESS_ERRNOS,
        "kvm_gmem_get_pfn (virt/kvm/guest_memfd.c)",
        "the guest_memfd behind the memslot was closed",
        _guest_memfd_closed,
        remedies=("new_guest_memfd",),
        evidence=("kvm_gmem_get_pfn -EFAULT",),
    ),
    Condition(
        "guest-memfd-missing",
        ACCESS_ERRNOS,
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
        ACCESS_ERRNOS,
        _USER_MEM,
        "nothing is mapped behind the memslot",
        _hva_unmapped,
        remedies=("restore", "emulate"),
        evidence=("user_mem_abort -EFAULT", "log: Failed to find VMA"),
    ),
    Condition(
        "hva-no-access",
        ACCESS_ERRNOS,
        _GUP,
        "the VMM cannot read the memory behind the memslot",
        _hva_no_access,
        remedies=("protect", "emulate"),
        evidence=_BY_VMA_FLAGS,
    ),
    Condition(
        "hva-read-only",
        ACCESS_ERRNOS,
        _GUP,
        "a write, and the VMM cannot write the memory behind the memslot",
        _hva_read_only,
        remedies=("protect", "emulate"),
        evidence=_BY_VMA_FLAGS,
    ),
    *host_fault.MARKED_PAGES,
    *pfnmap.CONDITIONS,
    *host_fault.BACKING,
    Condition(
        "protected-reclaimed",
        (errno.EFAULT,),
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
        ACCESS_ERRNOS,
        _GUP,
        "another mapping replaced the one behind the memslot",
        _vma_replaced,
        remedies=("restore",),
        evidence=_BY_VMA_FLAGS,
    ),
    Condition(
        "secret-memory",
        ACCESS_ERRNOS,
        _GUP,
        "the memory behind the memslot is a memfd_secret",
        _secret_memory,
        evidence=_BY_VMA_FLAGS,
    ),
)
