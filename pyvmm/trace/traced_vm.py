# SPDX-License-Identifier: GPL-2.0-only
"""The state of a traced VM, and the reasons for its failures.

KVM accepts a VM's ioctls only from the process that created it. So the trace records what the VMM
requested, and `pyvmm.why` judges failures on that and on the VMAs of the VMM's process.
"""

import contextlib
import errno as errnos
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from pyvmm.errors import PyvmmError
from pyvmm.kvm.exits import MemoryFault
from pyvmm.kvm.host_facts import host_facts
from pyvmm.kvm.memslots import ipa_bits, reason
from pyvmm.kvm.private_ranges import PrivateRanges
from pyvmm.kvm.slot_index import SlotIndex
from pyvmm.kvm.system import System
from pyvmm.kvm.vm import Vm
from pyvmm.kvm.vm_facts import file_name
from pyvmm.memory.suspect_pages import suspect_pages
from pyvmm.memory.vma import vmas
from pyvmm.trace.values import Values, int_member
from pyvmm.uapi.kvm import (
    KVM_MEM_GUEST_MEMFD,
    KVM_MEMORY_EXIT_FLAG_PRIVATE,
    KVM_VM_TYPE_ARM_PROTECTED,
)
from pyvmm.why import (
    Absent,
    AccessFacts,
    Finding,
    Host,
    RegistrationFacts,
    Slot,
    kvm_run,
    most_likely,
)
from pyvmm.why.slot import UndescribedMemfd

UNKNOWN = "unknown"


@dataclass(frozen=True)
class TracedMemfd:
    """A guest_memfd of VM `owner`; `size` in bytes."""

    size: int
    flags: int
    owner: "TracedVm"

    @property
    def closed(self) -> bool:
        """Raise `Absent`: the trace does not record the close of a guest_memfd."""
        raise Absent("whether the guest_memfd was closed")


@dataclass(eq=False)
class TracedVm:
    """A VM of process `pid`, as its VMM set it up.

    Attributes:
        label: the label of the VM in the trace: "vm1".
        vm_type: the argument of ``KVM_CREATE_VM``.
        enabled: the numbers of the capabilities that ``KVM_ENABLE_CAP`` enabled.
        memfds: the guest_memfds, by file descriptor in the process.
        memslots: the registered memslots.
        private: the memory that ``KVM_SET_MEMORY_ATTRIBUTES`` made private.
    """

    label: str
    pid: int
    vm_type: int = 0
    enabled: set[int] = field(default_factory=set)
    memfds: dict[int, TracedMemfd] = field(default_factory=dict)
    memslots: SlotIndex[Slot] = field(default_factory=SlotIndex)
    private: PrivateRanges = field(default_factory=PrivateRanges)

    @property
    def protected(self) -> bool:
        """Return True for a protected guest (pKVM)."""
        return bool(self.vm_type & KVM_VM_TYPE_ARM_PROTECTED)

    def set_memslot(self, slot: Slot) -> None:
        """Record a successful request: register or move the memslot, or delete it (size 0)."""
        if slot.size:
            self.memslots.add(slot)
        else:
            self.memslots.remove(slot.number)

    def requested_slot(self, region: Values) -> Slot:
        """Return the memslot of a ``struct kvm_userspace_memory_region`` or ``…_region2``."""
        memfd = int_member(region, "guest_memfd")
        return Slot(
            int_member(region, "slot"),
            int_member(region, "guest_phys_addr"),
            int_member(region, "memory_size"),
            int_member(region, "userspace_addr"),
            int_member(region, "flags"),
            self.memfds.get(memfd) if "guest_memfd" in region else None,
            int_member(region, "guest_memfd_offset"),
        )


class Explainer:
    """The judge of failures of traced VMs.

    It creates a VM of its own on first use, to query capabilities. Their values depend only on the
    kernel and the CPU, so they are those of the traced VM.
    """

    @cached_property
    def _vm(self) -> Vm | None:
        try:
            with System.open() as system:
                return system.create_vm()
        except PyvmmError:
            return None

    @cached_property
    def _host(self) -> Host:
        return host_facts(self._vm)

    def rejected(self, vm: TracedVm, region: Values, errno: int) -> tuple[str, str]:
        """Return the cause of a rejected memslot, and a sentence."""
        slot, memfd_file = vm.requested_slot(region), None
        if slot.flags & KVM_MEM_GUEST_MEMFD:
            with contextlib.suppress(PermissionError):
                memfd_file = file_name(int_member(region, "guest_memfd"), vm.pid)
            slot = replace(slot, guest_memfd=slot.guest_memfd or UndescribedMemfd())
        return reason(
            RegistrationFacts(
                errno=errno,
                host=self._host,
                slot=slot,
                vm=vm,
                known_slots=tuple(vm.memslots),
                known_ipa_bits=ipa_bits(vm.vm_type),
                known_enabled=vm.enabled,
                known_memfd_file=memfd_file,
                known_protected=vm.protected,
                pid=vm.pid,
            )
        )

    def fault(self, vm: TracedVm, fault: MemoryFault) -> tuple[str, str]:
        """Return the cause of a ``KVM_EXIT_MEMORY_FAULT``, and a sentence."""
        private = bool(fault.flags & KVM_MEMORY_EXIT_FLAG_PRIVATE)
        if finding := self._judge(vm, fault.gpa, fault.errno, fault.kind, private):
            return finding.name, finding.why
        return UNKNOWN, "the memory is accessible now; it may have been fixed since the fault"

    def bare_fault(self, vm: TracedVm) -> tuple[str, str]:
        """Return the likely cause of a ``KVM_RUN`` that failed with a bare EFAULT, and a sentence.

        The address is unknown, because only the VMM's process can read the vCPU's registers. The
        cause is that of the first inaccessible memory behind a memslot, or else of the first that
        may be inaccessible.
        """
        likely: tuple[str, str] | None = None
        for gpa in _suspects(vm):
            if finding := self._judge(vm, gpa, errnos.EFAULT, "run_failure"):
                why = f"the kernel gave no address; a guest access at GPA {gpa:#x} would fail: "
                if finding.mark == "known":
                    return finding.name, why + finding.why
                likely = likely or (finding.name, why.replace("would", "may") + finding.why)
        if likely:
            return likely
        return UNKNOWN, "the kernel gave no address, and all memory behind memslots is accessible"

    def no_memory(self, vm: TracedVm) -> tuple[str, str]:
        """Return the likely cause of a ``KVM_RUN`` that failed with ENOMEM, and a sentence."""
        facts = AccessFacts(
            errno=errnos.ENOMEM,
            host=self._host,
            exit="run_failure",
            protected=vm.protected,
            pid=vm.pid,
        )
        if finding := most_likely(kvm_run.CONDITIONS, facts):
            return finding.name, finding.why
        return UNKNOWN, "KVM got no memory for its own tables"

    def close(self) -> None:
        """Close the VM, if there is one."""
        if own := self.__dict__.pop("_vm", None):
            own.close()

    def _judge(
        self, vm: TracedVm, gpa: int, errno: int, exit: str, private: bool | None = None
    ) -> Finding | None:
        facts = AccessFacts(
            errno=errno,
            host=self._host,
            exit=exit,
            private=private,
            known_page_private=gpa in vm.private,
            known_gpa=gpa,
            slot_known=True,
            known_slot=vm.memslots.at(gpa),
            protected=vm.protected,
            known_enabled=vm.enabled,
            pid=vm.pid,
        )
        return most_likely(kvm_run.CONDITIONS, facts)


def _suspects(vm: TracedVm) -> Iterator[int]:
    """Yield the GPAs of holes, PFNMAP memory, missing permissions and suspect pages of memslots."""
    for slot in vm.memslots:
        if slot.guest_memfd:
            continue
        try:
            areas = vmas(slot.hva, slot.size, vm.pid)
        except OSError:  # the process has exited
            return
        needed = "r" if slot.readonly else "rw"
        at = slot.hva
        for vma in areas:
            if vma.start > at:
                yield slot.gpa + at - slot.hva
            if vma.pfnmap or not all(letter in vma.perms for letter in needed):
                yield slot.gpa + max(vma.start, slot.hva) - slot.hva
            for hva in suspect_pages(vma, vm.pid):
                if slot.hva <= hva < slot.hva + slot.size:
                    yield slot.gpa + hva - slot.hva
            at = vma.end
        if at < slot.hva + slot.size:
            yield slot.gpa + at - slot.hva
