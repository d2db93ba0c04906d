# SPDX-License-Identifier: GPL-2.0-only
"""Facts that KVM's conditions are tested on. Any of them may be absent.

A fact that was given as None is absent: reading it raises `Absent`, and the judge then calls the
condition undecided. Addresses and sizes are in bytes.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from pyvmm.memory import PAGE_SIZE, PROT_READ, PROT_WRITE, Mapping, access_ok, backing_file
from pyvmm.memory.backing_file import BackingFile
from pyvmm.memory.hugetlb_pool import HugetlbPool, hugetlb_pool
from pyvmm.memory.memory_cgroup import MemoryLimit, memory_limits
from pyvmm.memory.pagemap import PageState, page_state
from pyvmm.memory.peek import peek
from pyvmm.memory.placements import Placement
from pyvmm.memory.procmap import MapsEntry, find_vma
from pyvmm.memory.vma import Vma, vmas
from pyvmm.uapi.kvm import (
    KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED,
    KVM_CAP_ARM_SUPPORTED_BLOCK_SIZES,
    KVM_CAP_ARM_WRITABLE_IMP_ID_REGS,
)
from pyvmm.why.slot import Absent, Slot, need
from pyvmm.why.vm_state import VcpuState, VmState

SMALLEST_IPA_BITS = 32  # the least that KVM_VM_TYPE_ARM_IPA_SIZE accepts

AccessKind = Literal["read", "write", "exec"]

_MAPPINGS = "the mappings of the process"
_CONTROL_GROUP = "the process's control group"


def _vmas(hva: int, size: int, pid: int | str | None) -> Sequence[Vma]:
    """Return the VMAs in a range. Raises `Absent` if there is no such process, or no permission."""
    if pid is None:
        raise Absent(_MAPPINGS)
    try:
        return vmas(hva, size, pid)
    except OSError:
        raise Absent(_MAPPINGS) from None


@dataclass(frozen=True)
class Host:
    """The kernel and CPU.

    Attributes:
        arch: "arm64" or "x86_64".
        check: ``KVM_CHECK_EXTENSION`` of a VM, 0 for a capability the kernel does not know; None
            where no VM can be asked.
        cacheable_pfnmap_rule: the kernel knows ``KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED``, and
            with it the rule that cacheable PFNMAP needs support; None where no VM can be asked.
        fwb: ID_AA64MMFR2_EL1.FWB is not 0 (stage 2 can force Write-Back).
        dic: CTR_EL0.DIC is 1 (no instruction cache maintenance for data to instruction coherence).
        gpa_bits: width of a GPA that KVM can map on x86.
        guest_memfd_bound_errno: returns the errno of binding a part of a guest_memfd twice; None
            where no VM can be asked.
    """

    arch: str
    check: Callable[[int], int] | None = None
    cacheable_pfnmap_rule: bool | None = None
    fwb: bool | None = None
    dic: bool | None = None
    gpa_bits: int | None = None
    guest_memfd_bound_errno: Callable[[], int | None] | None = None

    def offers(self, capability: int) -> int:
        """Return the VM's answer to ``KVM_CHECK_EXTENSION``. Raises `Absent`."""
        return need(self.check, "a VM to ask for its capabilities (/dev/kvm)")(capability)

    @property
    def rejects_cacheable_pfnmap(self) -> bool:
        """Return True if KVM rejects cacheable PFNMAP memory. Raises `Absent`.

        Only arm64 has the rule: KVM needs both FWB and DIC (kvm_supports_cacheable_pfnmap in
        arch/arm64/kvm/mmu.c).
        """
        if self.arch != "arm64":
            return False
        if not need(self.cacheable_pfnmap_rule, "a VM to ask for its capabilities (/dev/kvm)"):
            return False
        return not self.offers(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED)

    @property
    def may_protect_guests(self) -> bool:
        """Return True if KVM may run protected guests: it is in protected mode (pKVM).

        That mode alone hides a capability that each kernel with the other one has
        (kvm_pkvm_ext_allowed in arch/arm64/include/asm/kvm_pkvm.h).
        """
        if self.arch != "arm64" or self.check is None:
            return False
        newer, hidden = KVM_CAP_ARM_WRITABLE_IMP_ID_REGS, KVM_CAP_ARM_SUPPORTED_BLOCK_SIZES
        return bool(self.check(newer)) and not self.check(hidden)

    @property
    def missing_for_cacheable_pfnmap(self) -> str:
        """Return, as a clause, what this host lacks for cacheable PFNMAP."""
        if self.fwb is None or self.dic is None:
            return "KVM needs both FWB and DIC"
        missing = missing_features(fwb=self.fwb, dic=self.dic)
        return missing or "the CPU has FWB and DIC, and KVM answers 0 all the same"


def missing_features(*, fwb: bool, dic: bool) -> str | None:
    """Return, as a clause, which of FWB and DIC the CPU lacks for cacheable PFNMAP, or None.

    KVM needs both: without FWB it has to clean the data cache, without DIC to invalidate the
    instruction cache, each through a kernel mapping that PFNMAP memory need not have
    (kvm_supports_cacheable_pfnmap and user_mem_abort in arch/arm64/kvm/mmu.c).
    """
    missing = [] if fwb else ["FWB (ID_AA64MMFR2_EL1.FWB, bits 43:40, is 0)"]
    missing += [] if dic else ["DIC (CTR_EL0.DIC, bit 29, is 0)"]
    return f"this CPU has no {' and no '.join(missing)}; KVM needs both" if missing else None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts of every failure.

    Attributes:
        errno: the errno, 0 for none.
        host: the kernel and CPU.
        read_vm_state: returns the state of the VM; None where it cannot be asked.
    """

    errno: int
    host: Host
    read_vm_state: Callable[[], VmState] | None = field(default=None, repr=False)

    @cached_property
    def vm_state(self) -> VmState:
        """Return the state of the VM. Raises `Absent`."""
        return need(self.read_vm_state, "the process that created the VM, and whether it is dead")()


@dataclass(frozen=True, kw_only=True)
class RegistrationFacts(Facts):
    """Facts of a rejected ``KVM_SET_USER_MEMORY_REGION`` or ``KVM_SET_USER_MEMORY_REGION2``.

    Attributes:
        slot: the request.
        vm: the VM, to compare with a guest_memfd's owner.
        known_slots: the VM's memslots before the request.
        known_ipa_bits: width of the VM's IPA space (arm64).
        known_enabled: the capabilities enabled by ``KVM_ENABLE_CAP``.
        known_memfd_file: the file behind the request's guest_memfd descriptor, as /proc/PID/fd
            names it; "" if the descriptor is closed.
        known_protected: the VM is a protected one (``KVM_VM_TYPE_ARM_PROTECTED``).
        pid: the process that made the request, if its mappings are still the same.
    """

    slot: Slot
    vm: object = None
    known_slots: Collection[Slot] | None = None
    known_ipa_bits: int | None = None
    known_enabled: Collection[int] | None = None
    known_memfd_file: str | None = None
    known_protected: bool | None = None
    pid: int | str | None = None

    @property
    def memslots(self) -> Collection[Slot]:
        """Return the VM's memslots before the request. Raises `Absent`."""
        return need(self.known_slots, "the VM's memslots")

    @property
    def existing(self) -> Slot | None:
        """Return the memslot that already has the request's number. Raises `Absent`."""
        return next((each for each in self.memslots if each.number == self.slot.number), None)

    @property
    def ipa_bits(self) -> int:
        """Return the width of the VM's IPA space. Raises `Absent`."""
        return need(self.known_ipa_bits, "the machine type of KVM_CREATE_VM")

    @property
    def enabled(self) -> Collection[int]:
        """Return the capabilities enabled for the VM. Raises `Absent`."""
        return need(self.known_enabled, "the capabilities enabled by KVM_ENABLE_CAP")

    @property
    def memfd_file(self) -> str:
        """Return the file behind the guest_memfd descriptor, "" if closed. Raises `Absent`."""
        return need(self.known_memfd_file, "the file behind the guest_memfd descriptor")

    @property
    def protected(self) -> bool:
        """Return True if the VM is a protected one. Raises `Absent`."""
        return need(self.known_protected, "the machine type of KVM_CREATE_VM")

    @property
    def in_user_space(self) -> bool:
        """Return True if the HVA range lies within a process's address space."""
        return access_ok(self.slot.hva, self.slot.size)

    @cached_property
    def vmas(self) -> Sequence[Vma]:
        """Return the VMAs that overlap the requested HVA range. Raises `Absent`."""
        return _vmas(self.slot.hva, self.slot.size, self.pid)


@dataclass(frozen=True, kw_only=True)
class AccessFacts(Facts):
    """Facts of a guest access for which ``KVM_RUN`` failed or exited.

    Attributes:
        exit: the exit's kind, such as "arm_nisv" or "memory_fault"; "run_failure" for an errno
            alone.
        esr: the syndrome of ``KVM_EXIT_ARM_SEA``.
        private: ``KVM_MEMORY_EXIT_FLAG_PRIVATE`` of ``KVM_EXIT_MEMORY_FAULT``.
        known_page_private: the page's KVM_MEMORY_ATTRIBUTE_PRIVATE.
        poisoned_hva: the address in the SIGBUS (BUS_MCEERR_AR or BUS_MCEERR_AO).
        poison_consumed: the guest accessed it (BUS_MCEERR_AR).
        known_gpa: the GPA accessed.
        known_access: the kind of access.
        rebuilt: the access was rebuilt from the vCPU's registers and instruction.
        rebuilt_misalignment: then, why it would be an alignment fault on Device memory, as a
            predicate; None if it would not.
        rebuilt_atomic: then, whether it is an atomic or an exclusive.
        known_slot: the memslot at the GPA, or None for no memslot; absent without `slot_known`.
        mapping: the VMM's record of the memslot's mapping.
        device_at_gpa: the VMM emulates a device at the GPA.
        known_enabled: the capabilities enabled by ``KVM_ENABLE_CAP``.
        protected: the guest is protected from its host (pKVM); None if not known.
        pid: the process whose VM it is.
        read_vcpu_state: returns the state of the vCPU; None where it cannot be asked.
    """

    exit: str | None = None
    esr: int | None = None
    private: bool | None = None
    known_page_private: bool | None = None
    poisoned_hva: int | None = None
    poison_consumed: bool = True
    known_gpa: int | None = None
    known_access: AccessKind | None = None
    rebuilt: bool = False
    rebuilt_misalignment: str | None = None
    rebuilt_atomic: bool = False
    slot_known: bool = False
    known_slot: Slot | None = None
    mapping: Mapping | None = field(default=None, repr=False)
    device_at_gpa: bool | None = None
    known_enabled: Collection[int] | None = None
    protected: bool | None = None
    pid: int | str | None = None
    read_vcpu_state: Callable[[], VcpuState] | None = field(default=None, repr=False)

    @cached_property
    def vcpu(self) -> VcpuState:
        """Return the state of the vCPU and of its descriptor. Raises `Absent`."""
        return need(self.read_vcpu_state, "the state of the vCPU and of its descriptor")()

    @property
    def gpa(self) -> int:
        """Return the GPA accessed. Raises `Absent`."""
        return need(self.known_gpa, "the GPA accessed")

    @property
    def writes(self) -> bool:
        """Return True if the access is a write. Raises `Absent`."""
        return need(self.known_access, "whether the access was a write") == "write"

    @property
    def page_private(self) -> bool:
        """Return True if ``KVM_SET_MEMORY_ATTRIBUTES`` made the page private. Raises `Absent`."""
        return need(self.known_page_private, "the memory attributes of the page")

    @property
    def misalignment(self) -> str | None:
        """Return why Device memory would not take the access, or None. Raises `Absent`."""
        if not self.rebuilt:
            raise Absent("the instruction that made the access")
        return self.rebuilt_misalignment

    @property
    def atomic(self) -> bool:
        """Return True for an atomic or an exclusive. Raises `Absent`."""
        if not self.rebuilt:
            raise Absent("the instruction that made the access")
        return self.rebuilt_atomic

    @property
    def slot(self) -> Slot | None:
        """Return the memslot at the GPA, or None. Raises `Absent`."""
        if not self.slot_known:
            raise Absent("the VM's memslots and the GPA accessed")
        return self.known_slot

    @property
    def host_slot(self) -> Slot | None:
        """Return the memslot at the GPA if its pages come from the HVA range. Raises `Absent`.

        KVM takes a guest_memfd slot's pages from the file and does not look at the VMA
        (kvm_mmu_faultin_pfn_gmem on x86, gmem_abort in arch/arm64/kvm/mmu.c).
        """
        slot = self.slot
        return None if slot is None or slot.guest_memfd else slot

    @cached_property
    def page(self) -> int:
        """Return the HVA of the host page behind the GPA; 0 without a memslot. Raises `Absent`."""
        return self.slot.hva_of(self.gpa) & -PAGE_SIZE if self.slot else 0

    @property
    def enabled(self) -> Collection[int]:
        """Return the capabilities enabled for the VM. Raises `Absent`."""
        return need(self.known_enabled, "the capabilities enabled by KVM_ENABLE_CAP")

    @cached_property
    def page_state(self) -> PageState:
        """Return the state of the page, as it was before `readable`. Raises `Absent`."""
        if self.pid is None:
            raise Absent(_MAPPINGS)
        try:
            return page_state(self.page, self.pid)
        except OSError:
            raise Absent("the page's entry in /proc/PID/pagemap") from None

    @cached_property
    def waits_for_userfaultfd(self) -> bool:
        """Return True if a read of the page is a userfault: missing, minor, or read-protected.

        handle_userfault (mm/userfaultfd.c, formerly fs/userfaultfd.c).
        """
        state = self.page_state
        if state.present:
            return state.uffd and self.vma is not None and "ur" in self.vma.flags
        return not state.swapped and self.vma is not None and bool({"um", "ui"} & self.vma.flags)

    @cached_property
    def readable(self) -> bool:
        """Return True if get_user_pages can read the page; never for PFNMAP memory."""
        if self.pid is None:
            raise Absent(_MAPPINGS)
        if self.protected or (self.protected is None and self.host.may_protect_guests):
            raise Absent("the memory of a protected guest, which a read would zero")
        with suppress(Absent):
            if self.waits_for_userfaultfd:  # the read would wait, and only SIGKILL would end it
                return False
        return peek(self.page, 1, None if self.pid == "self" else int(self.pid)) is not None

    @cached_property
    def next_area(self) -> MapsEntry | None:
        """Return the mapping at the page, or else the next one above it."""
        if self.pid is None:
            raise Absent(_MAPPINGS)
        try:
            return find_vma(self.page, self.pid)
        except OSError:
            raise Absent(_MAPPINGS) from None

    @property
    def area(self) -> MapsEntry | None:
        """Return the mapping at the page, or None for a hole or no memslot."""
        if self.host_slot is None:
            return None
        found = self.next_area
        return found if found and found.start <= self.page else None

    def area_allows(self, prot: int) -> bool:
        """Return True if the mapping permits reads (``PROT_READ``) or writes (``PROT_WRITE``)."""
        letters = ("r" if prot & PROT_READ else "") + ("w" if prot & PROT_WRITE else "")
        return self.area is not None and all(letter in self.area.perms for letter in letters)

    @cached_property
    def vma(self) -> Vma | None:
        """Return the mapping at the page with its VmFlags, or None for a hole."""
        return next(iter(_vmas(self.page, PAGE_SIZE, self.pid)), None)

    @property
    def pfnmap(self) -> bool:
        """Return True if the page is mapped by page frame number (VM_PFNMAP)."""
        return self.vma is not None and self.vma.pfnmap

    @property
    def by_pfn(self) -> bool:
        """Return True if the page may be mapped by page frame number (VM_PFNMAP or VM_MIXEDMAP)."""
        return self.vma is not None and (self.vma.pfnmap or self.vma.mixedmap)

    @property
    def may_be_ram(self) -> bool:
        """Return True if memory mapped by PFN may be RAM (pfn_is_map_memory), not a device's.

        User space cannot see the PFN: /proc/PID/pagemap skips VM_PFNMAP (walk_page_test in
        mm/pagewalk.c).
        """
        return self.vma is not None and self.by_pfn and not self.vma.is_bar

    @property
    def private_mapping(self) -> bool:
        """Return True for MAP_PRIVATE: the first write gets a copy in ordinary memory."""
        return self.area is not None and self.area.perms.endswith("p")

    @property
    def at(self) -> int:
        """Return the page's offset in `mapping`, in bytes. Raises `Absent`."""
        return self.page - need(self.mapping, "the VMM's record of the mapping").hva

    @cached_property
    def placement(self) -> Placement | None:
        """Return what pyvmm placed at the page, or None. Raises `Absent`."""
        mapping = need(self.mapping, "the VMM's record of the mapping")
        return next(mapping.placements.within(self.at, self.at + PAGE_SIZE), None)

    @property
    def replaced(self) -> bool:
        """Return True if the mapping is not the one pyvmm placed. Raises `Absent`."""
        if self.area is None or self.placement is None:
            return False
        if self.placement.fd is None:
            return bool(self.area.path) and not self.area.path.startswith("[anon")
        offset = self.area.offset + self.page - self.area.start
        return not self.area.path or offset != self.placement.offset

    @property
    def file_offset(self) -> int:
        """Return the page's offset in the file behind it, in bytes."""
        return self.area.offset + self.page - self.area.start if self.area else 0

    @cached_property
    def file(self) -> BackingFile | None:
        """Return the regular file behind the page, or None. Raises `Absent`."""
        if self.area is None or self.pid is None:
            return None
        with suppress(OSError):  # EPERM: map_files is for root
            return backing_file.of_mapping(self.area, self.page, self.pid)
        with suppress(OSError):  # EBADF: the VMM closed the descriptor
            if self.mapping and self.placement and self.placement.fd and not self.replaced:
                return backing_file.of_descriptor(self.placement.fd, self.file_offset)
        raise Absent("the file that the page maps")

    @cached_property
    def hugetlb_pool(self) -> HugetlbPool | None:
        """Return the pool of the page's huge pages, or None. Raises `Absent`."""
        if self.vma is None or not self.vma.hugetlb:
            return None
        try:
            return hugetlb_pool(self.vma.page_size)
        except OSError:
            raise Absent("the hugetlb pools in /sys") from None

    @cached_property
    def memory_limit(self) -> MemoryLimit | None:
        """Return the memory limit of the process at which allocations failed. Raises `Absent`."""
        if self.pid is None:
            raise Absent(_CONTROL_GROUP)
        try:
            limits = memory_limits(self.pid)
        except OSError:
            raise Absent(_CONTROL_GROUP) from None
        return next((limit for limit in limits if limit.failures), None)

    @property
    def backing_failure(self) -> str | None:
        """Return why the device behind the memslot does not respond, or None. Raises `Absent`."""
        backing = need(self.mapping, "the state of the device behind the memslot").backing
        return backing.failure() if backing else None

    @property
    def backing_name(self) -> str:
        """Return the region's name (``BAR4``), or the HVA of the page."""
        if self.mapping and self.mapping.backing:
            return self.mapping.backing.name
        return f"HVA {self.page:#x}"

    @property
    def rejected_as_cacheable(self) -> bool | None:
        """Return True if KVM rejects a memslot over this page as cacheable PFNMAP.

        Only KVM sees how the page is mapped: cacheability is in the VMA's vm_page_prot. None if
        no memslot can be registered to find out.
        """
        return None

    @property
    def device_in_stage2(self) -> bool:
        """Return True if KVM maps the page as Device memory, judged from its VMA.

        arch/arm64/kvm/mmu.c: memory mapped by PFN that is neither RAM (`may_be_ram`) nor cacheable
        is Device, unless the VMA has VM_ALLOW_ANY_UNCACHED, which vfio sets and smaps prints as
        "??". A vfio VMA without that flag is cacheable.
        """
        if self.vma is None or not self.by_pfn or self.vma.any_uncached:
            return False
        if self.host.offers(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED):
            return "vfio" not in self.vma.path
        return not self.rejected_as_cacheable
