# SPDX-License-Identifier: GPL-2.0-only
"""The facts of an access by a guest of this process, collected for `pyvmm.why`."""

from dataclasses import dataclass, field
from functools import cached_property, partial

from pyvmm.errors import PyvmmError
from pyvmm.faults.context import VcpuContext
from pyvmm.faults.poison import Poisoned
from pyvmm.faults.report import FaultReport
from pyvmm.kvm.exits import ArmSea, MemoryFault, RunFailure
from pyvmm.kvm.memslots import Memslot, MemslotError
from pyvmm.kvm.system import System
from pyvmm.kvm.vcpu_facts import vcpu_state
from pyvmm.kvm.vm_facts import vm_state
from pyvmm.memory import PAGE_SIZE
from pyvmm.uapi.kvm import KVM_MEMORY_EXIT_FLAG_PRIVATE
from pyvmm.why import AccessFacts
from pyvmm.why.facts import SMALLEST_IPA_BITS
from pyvmm.why.registration import CACHEABLE_PFNMAP


@dataclass(frozen=True, kw_only=True)
class GuestAccessFacts(AccessFacts):
    """The facts of an access by a guest of this process."""

    memslot: Memslot | None = field(default=None)

    @cached_property
    def rejected_as_cacheable(self) -> bool:
        """Return True if KVM rejects a memslot over this page as cacheable PFNMAP.

        A VM made for this registers the page and is closed again.
        """
        if not self.pfnmap or not self.host.rejects_cacheable_pfnmap:
            return False
        if self.mapping is None:
            return True
        try:
            with System.open() as system, system.create_vm(SMALLEST_IPA_BITS) as vm:
                vm.memslots.add(0, self.mapping, at=self.at, size=PAGE_SIZE)
        except PyvmmError as error:
            return not isinstance(error, MemslotError) or error.cause == CACHEABLE_PFNMAP
        return False


def facts_of(report: FaultReport, context: VcpuContext) -> GuestAccessFacts:
    """Collect the facts of a located access. The expensive ones are looked up when first read."""
    exit = report.exit
    slot = None if report.gpa is None else context.vm.memslots.at(report.gpa)
    private = None
    if isinstance(exit, MemoryFault):
        private = bool(exit.flags & KVM_MEMORY_EXIT_FLAG_PRIVATE)
    return GuestAccessFacts(
        errno=exit.errno if isinstance(exit, MemoryFault | RunFailure) else 0,
        host=context.vm.host,
        exit=exit.kind,
        esr=exit.esr if isinstance(exit, ArmSea) else None,
        private=private,
        known_page_private=None if report.gpa is None else report.gpa in context.vm.private,
        poisoned_hva=exit.hva if isinstance(exit, Poisoned) else None,
        poison_consumed=not isinstance(exit, Poisoned) or exit.consumed,
        known_gpa=report.gpa,
        known_access=report.access,
        rebuilt=report.va is not None,
        rebuilt_misalignment=report.unaligned_for_device,
        rebuilt_atomic=report.atomic,
        slot_known=report.gpa is not None,
        known_slot=slot,
        memslot=slot,
        mapping=slot.memory if slot else None,
        known_enabled=context.vm.enabled,
        device_at_gpa=report.gpa is not None and context.mmio.at(report.gpa) is not None,
        protected=context.vm.protected,
        pid="self",
        read_vm_state=partial(vm_state, context.vm),
        read_vcpu_state=partial(vcpu_state, context.vm, context.vcpu),
    )
