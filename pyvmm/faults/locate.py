# SPDX-License-Identifier: GPL-2.0-only
"""Locate the access behind an exit: from the exit itself, or rebuilt from the vCPU.

Where the kernel reports an address, that counts, and the vCPU's state adds the rest. A bare errno
has no address: each page access of the instruction is then a candidate.
"""

from collections.abc import Sequence
from dataclasses import replace

from pyvmm.arch.guest_access import PageAccess, RebuiltAccess
from pyvmm.errno_names import errno_name
from pyvmm.faults.context import VcpuContext
from pyvmm.faults.guest_memory import GuestMemory, gpa_of
from pyvmm.faults.poison import Poisoned
from pyvmm.faults.report import FaultReport
from pyvmm.kvm.exits import ArmLdst64b, ArmNisv, ArmSea, Exit, MemoryFault, Mmio, RunFailure
from pyvmm.memory import PAGE_SIZE
from pyvmm.uapi.kvm import KVM_EXIT_ARM_SEA_FLAG_GPA_VALID
from pyvmm.why.facts import AccessKind


def locate(exit: Exit | Poisoned, context: VcpuContext) -> Sequence[FaultReport]:
    """Return the accesses that may have faulted, in the order in which the CPU makes them.

    There is exactly one if the kernel reported the address, or if no candidate could be rebuilt
    (its `gpa` is None then). Raises `TypeError` for an exit that is not a fault.
    """
    rebuilt = _rebuild(context)
    match exit:
        case MemoryFault(gpa=gpa, size=size):
            return [_reported(exit, rebuilt, gpa, size)]
        case Mmio(gpa=gpa, size=size, write=write):
            return [_reported(exit, rebuilt, gpa, size, "write" if write else "read")]
        case ArmNisv(fault_ipa=gpa) | ArmLdst64b(fault_ipa=gpa):
            return [_reported(exit, rebuilt, gpa, 0)]
        case ArmSea(flags=flags, gpa=gpa) if flags & KVM_EXIT_ARM_SEA_FLAG_GPA_VALID:
            return [_reported(exit, rebuilt, gpa, PAGE_SIZE)]
        case Poisoned(hva=hva, size=size):
            if not exit.consumed:  # the instruction at the PC has nothing to do with it
                rebuilt = replace(rebuilt, instruction=None, pages=(), incomplete=None)
            return [_reported(exit, rebuilt, gpa_of(context.vm.memslots, hva), size)]
        case RunFailure() | ArmSea():
            return _candidates(exit, rebuilt)
    raise TypeError(f"{exit} is not a fault")


def _rebuild(context: VcpuContext) -> RebuiltAccess:
    arch, vcpu = context.arch, context.vcpu
    if context.vm.protected:
        why = "the guest is protected, so its instruction and its page tables cannot be read"
        return RebuiltAccess(pc=arch.read(vcpu, arch.PC), incomplete=why)
    return arch.reconstruct(vcpu, GuestMemory(context).peek)


def _reported(
    exit: Exit | Poisoned,
    rebuilt: RebuiltAccess,
    gpa: int | None,
    size: int,
    access: AccessKind | None = None,
) -> FaultReport:
    page = None
    if gpa is not None:
        end = gpa + max(size, 1)
        page = next((p for p in rebuilt.pages if p.gpa < end and gpa < p.gpa + p.size), None)
    report = _from_page(exit, rebuilt, page)
    return replace(
        report, source="kernel", gpa=gpa, size=size or report.size, access=access or report.access
    )


def _candidates(exit: Exit | Poisoned, rebuilt: RebuiltAccess) -> list[FaultReport]:
    pages: list[PageAccess | None] = [p for p in rebuilt.pages if not p.already_read]
    return [_from_page(exit, rebuilt, page) for page in pages or [None]]


def _from_page(
    exit: Exit | Poisoned, rebuilt: RebuiltAccess, page: PageAccess | None
) -> FaultReport:
    failed = isinstance(exit, MemoryFault | RunFailure) and exit.errno
    return FaultReport(
        gpa=page.gpa if page else None,
        size=page.size if page else 0,
        access=page.access if page else None,
        errno=errno_name(failed) if failed else None,
        source="reconstructed",
        exit=exit,
        pc=rebuilt.pc,
        va=page.va if page else None,
        instruction=rebuilt.instruction,
        memory_type=page.memory_type if page else None,
        table=page.is_table if page else False,
        unaligned_for_device=page.unaligned_for_device if page else None,
        atomic=page.atomic if page else False,
        incomplete=None if page else rebuilt.incomplete,
    )
