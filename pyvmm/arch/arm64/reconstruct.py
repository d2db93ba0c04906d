# SPDX-License-Identifier: GPL-2.0-only
"""Rebuild the page accesses of an instruction whose ``KVM_RUN`` failed without an address.

The PC still points at the instruction. Its page accesses are listed in the CPU's order: the walk
for the fetch, the fetch, then for each data access its walk and its pages. The caller finds the
first one that the host cannot serve; the CPU did not get to those after it.
"""

from collections.abc import Iterator
from dataclasses import replace

from pyvmm.arch.arm64.a64.access import Access, Kind, fetch
from pyvmm.arch.arm64.bits import bit
from pyvmm.arch.arm64.regime import DESCRIPTOR_SIZE, Regime
from pyvmm.arch.arm64.vcpu_state import (
    CachedRegisters,
    Instruction,
    InstructionError,
    StoppedVcpu,
    operation_of,
)
from pyvmm.arch.arm64.walk import Stage1Fault, WalkFailure, WalkOutput
from pyvmm.arch.guest_access import PageAccess, Peek, RebuiltAccess
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.why.facts import AccessKind

# The smallest granule. Splitting at it is also correct for 16 and 64 KiB pages.
_PAGE = 4096

_ACCESS: dict[Kind, AccessKind] = {
    Kind.READ: "read",
    Kind.WRITE: "write",
    Kind.FETCH: "exec",
    Kind.MAINTENANCE: "write",  # ESR_EL2.WnR is 1, and kvm_is_write_fault() tests that
}


def reconstruct(vcpu: Vcpu, peek: Peek) -> RebuiltAccess:
    """Rebuild the access at a vCPU's PC, with `peek` to read guest physical memory."""
    return rebuild(StoppedVcpu(CachedRegisters(vcpu), peek))


def rebuild(vcpu: StoppedVcpu) -> RebuiltAccess:
    """Rebuild the access at the PC of a stopped vCPU.

    This never raises for the guest's registers, tables or code: `RebuiltAccess.incomplete` says
    what could not be decoded.
    """
    pages: list[PageAccess] = []
    instruction, incomplete = None, None
    try:
        pc = vcpu.pc
    except InstructionError as error:  # the vCPU is not initialized, or its VM is dead
        return RebuiltAccess(pc=None, incomplete=str(error))
    try:
        word = _fetch(vcpu, pages)
        instruction = Instruction(word, pc)
        for access in operation_of(word).accesses(vcpu.registers):
            for part in access.pages(_PAGE):
                pages.extend(_path(vcpu, part, access.unaligned_for_device))
    except InstructionError as error:
        incomplete = str(error)
    return RebuiltAccess(pc=pc, instruction=instruction, pages=tuple(pages), incomplete=incomplete)


def _fetch(vcpu: StoppedVcpu, pages: list[PageAccess]) -> int:
    pages.extend(_path(vcpu, fetch(vcpu.pc)))
    word = vcpu.word(pages[-1].gpa)
    pages[-1] = replace(pages[-1], already_read=True)
    return word


def _path(vcpu: StoppedVcpu, access: Access, unaligned: str | None = None) -> Iterator[PageAccess]:
    """Yield the accesses of the walk to one page, then the access to that page."""
    fetching = access.kind is Kind.FETCH
    found = vcpu.translate_pc() if fetching else vcpu.translate(access.va)
    for step in found.steps:
        yield _descriptor(step.ipa, access.va, already_read=True)
    if isinstance(found, WalkFailure):
        if found.fault is Stage1Fault.TABLE_OUTSIDE_MEMORY and found.table_ipa is not None:
            yield _descriptor(found.table_ipa, access.va, already_read=False)
        raise InstructionError(f"stage 1: {found}")
    if _updates_descriptor(vcpu.regime, found, access.kind):
        yield replace(
            _descriptor(found.steps[-1].ipa, access.va, already_read=False), access="write"
        )
    yield PageAccess(
        gpa=found.ipa,
        size=access.size,
        access=_ACCESS[access.kind],
        va=access.va,
        memory_type=found.memory_type,
        # If stage 1 says Device, the guest takes the alignment fault itself.
        unaligned_for_device=unaligned if found.memory_type.startswith("Normal") else None,
        atomic=access.atomic,
    )


def _updates_descriptor(regime: Regime, found: WalkOutput, kind: Kind) -> bool:
    """Return True if the walk sets AF, or marks a clean page dirty (DDI 0487, D8.5).

    A walk that finds AF clear and has an output sets it (TCR_EL1.HA). Bit 7 is AP[2], or nDirty.
    """
    if not found.steps:
        return False
    leaf = found.steps[-1]
    if not leaf.access_flag:
        return True
    if kind is not Kind.WRITE or not regime.hardware_dirty_state or not bit(leaf.value, 7):
        return False
    return regime.indirect_permissions or bool(bit(leaf.value, 51))


def _descriptor(ipa: int, va: int, *, already_read: bool) -> PageAccess:
    return PageAccess(
        gpa=ipa, size=DESCRIPTOR_SIZE, access="read", va=va, already_read=already_read
    )
