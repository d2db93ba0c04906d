# SPDX-License-Identifier: GPL-2.0-only
"""Rebuild what a vCPU touched, where ``KVM_RUN`` failed and said nothing.

The PC still stands on the instruction. What it touches comes in the CPU's own order: the tables
that lead to the instruction, the instruction, then for each access its tables and its pages. Which
of them failed is for the host side to find out; nothing after it was touched any more.
"""

from collections.abc import Iterator
from dataclasses import replace

from pyvmm.arch.architecture import Vcpu
from pyvmm.arch.arm64.a64.access import Access, Kind, fetch
from pyvmm.arch.arm64.a64.decode import decode
from pyvmm.arch.arm64.a64.operation import NoAccess, Undecodable
from pyvmm.arch.arm64.regime import DESCRIPTOR_SIZE
from pyvmm.arch.arm64.vcpu_state import Instruction, Registers, Suspended, Untold
from pyvmm.arch.arm64.walk import Fault, WalkFailure
from pyvmm.arch.faulting import AccessKind, Peek, Reconstruction, Touch

# The smallest granule: no two neighbouring pages of any larger one are told apart wrongly.
_PAGE = 4096

_ACCESS: dict[Kind, AccessKind] = {
    Kind.READ: "read",
    Kind.WRITE: "write",
    Kind.FETCH: "exec",
    Kind.MAINTENANCE: "write",  # ESR_EL2.WnR is 1 for it, and KVM goes by that
}


def reconstruct(vcpu: Vcpu, peek: Peek) -> Reconstruction:
    """What the instruction at a vCPU's PC touches; `peek` reads guest physical memory."""
    return rebuild(Suspended(Registers(vcpu), peek))


def rebuild(at: Suspended) -> Reconstruction:
    """The same, given what the vCPU was about to do.

    Whatever the guest has put in its registers, tables and code, this returns: what could not
    be told is said in `untold`.
    """
    touches: list[Touch] = []
    instruction, untold = None, None
    try:
        word = _fetch(at, touches)
        instruction = Instruction(word, at.pc)
        for access in _accesses(at, word):
            for part in access.pages(_PAGE):
                touches.extend(_path(at, part, access.misfit))
    except Untold as reason:
        untold = str(reason)
    return Reconstruction(pc=at.pc, instruction=instruction, touches=tuple(touches), untold=untold)


def _fetch(at: Suspended, touches: list[Touch]) -> int:
    if at.aarch32:
        raise Untold("the guest runs AArch32 code, which is not decoded")
    touches.extend(_path(at, fetch(at.pc)))
    word = at.word(touches[-1].gpa)
    if word is None:
        raise Untold("the instruction itself cannot be read from guest memory")
    touches[-1] = replace(touches[-1], seen=True)
    return word


def _accesses(at: Suspended, word: int) -> list[Access]:
    match decode(word):
        case NoAccess(why):
            raise Untold(f"the instruction accesses no memory ({why})")
        case Undecodable() as undecodable:
            raise Untold(str(undecodable))
        case operation:
            return operation.accesses(at.registers)


def _path(at: Suspended, access: Access, misfit: str | None = None) -> Iterator[Touch]:
    """The descriptors that lead to one page of an access, then the page."""
    found = at.translate(access.va, fetch=access.kind is Kind.FETCH)
    for step in found.steps:
        yield _descriptor(step.ipa, access.va, seen=True)
    if isinstance(found, WalkFailure):
        if found.fault is Fault.TABLE_OUTSIDE_MEMORY and found.table_ipa is not None:
            yield _descriptor(found.table_ipa, access.va, seen=False)
        raise Untold(f"stage 1: {found}")
    yield Touch(
        gpa=found.ipa,
        size=access.size,
        access=_ACCESS[access.kind],
        va=access.va,
        memory_type=found.memory_type,
        # Where stage 1 says Device, the guest takes that fault itself.
        misfit=misfit if found.memory_type.startswith("Normal") else None,
    )


def _descriptor(ipa: int, va: int, *, seen: bool) -> Touch:
    return Touch(gpa=ipa, size=DESCRIPTOR_SIZE, access="read", va=va, seen=seen)
