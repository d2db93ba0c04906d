# SPDX-License-Identifier: GPL-2.0-only
"""Why an ioctl failed in a traced VM, judged by `pyvmm.why` on what the trace recorded."""

import errno as errnos
from collections.abc import Iterator
from functools import cached_property

from pyvmm.errors import PyvmmError
from pyvmm.kvm.exits import MemoryFault
from pyvmm.kvm.host_facts import host_facts
from pyvmm.kvm.memslots import ipa_bits, reason
from pyvmm.kvm.system import System
from pyvmm.kvm.vm import Vm
from pyvmm.memory.vma import vmas
from pyvmm.trace.vms import TracedVm
from pyvmm.uapi.kvm import KVM_MEMORY_EXIT_FLAG_PRIVATE
from pyvmm.why import AccessFacts, Finding, Host, RegistrationFacts, Slot, kvm_run, most_likely

UNKNOWN = "unknown"


class Explainer:
    """Judges failures of traced VMs. A VM of its own, made when first needed, answers for the host.

    KVM accepts a VM's ioctls from one process only, but a capability's answer is the kernel's and
    the CPU's, so any VM's is the same.
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

    def rejected(self, vm: TracedVm, slot: Slot, errno: int) -> tuple[str, str]:
        """Return the cause of a rejected memslot and a sentence."""
        return reason(
            RegistrationFacts(
                errno=errno,
                host=self._host,
                slot=slot,
                vm=vm,
                known_slots=tuple(vm.memslots),
                known_ipa_bits=ipa_bits(vm.vm_type),
                known_enabled=vm.enabled,
                pid=vm.pid,
            )
        )

    def fault(self, vm: TracedVm, fault: MemoryFault) -> tuple[str, str]:
        """Return the cause of a ``KVM_EXIT_MEMORY_FAULT`` and a sentence."""
        private = bool(fault.flags & KVM_MEMORY_EXIT_FLAG_PRIVATE)
        if finding := self._judge(vm, fault.gpa, fault.errno, fault.kind, private):
            return finding.name, finding.why
        return UNKNOWN, "the memory is accessible now; it may have been fixed since the fault"

    def bare_fault(self, vm: TracedVm) -> tuple[str, str]:
        """Return the likely cause of a ``KVM_RUN`` that failed with a bare EFAULT, and a sentence.

        Only the VMM's own process can read the vCPU, so the address is not known. The first
        memory behind a memslot to which an access would fail is named.
        """
        for gpa in _suspects(vm):
            if finding := self._judge(vm, gpa, errnos.EFAULT, "run_failure"):
                why = f"the kernel gave no address; a guest access at GPA {gpa:#x} would fail: "
                return finding.name, why + finding.why
        return UNKNOWN, "the kernel gave no address, and all memory behind memslots is accessible"

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
            known_gpa=gpa,
            slot_known=True,
            known_slot=vm.memslots.at(gpa),
            pid=vm.pid,
        )
        return most_likely(kvm_run.CONDITIONS, facts)


def _suspects(vm: TracedVm) -> Iterator[int]:
    """Yield the GPAs of holes, PFNMAP memory and missing permissions behind memslots."""
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
            at = vma.end
        if at < slot.hva + slot.size:
            yield slot.gpa + at - slot.hva
