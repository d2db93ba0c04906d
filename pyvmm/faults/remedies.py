# SPDX-License-Identifier: GPL-2.0-only
"""What can be done about a fault, cause by cause, and what each would cost the guest."""

from collections.abc import Callable, Iterator

from pyvmm.faults import fix
from pyvmm.faults.board import BackedDevice, GuestMemory
from pyvmm.faults.cause import Case, Cause, explain
from pyvmm.faults.evidence import Evidence
from pyvmm.faults.fault import Fault, Fix, Remedy
from pyvmm.faults.pieces import DeviceMemory
from pyvmm.kvm.exits import Mmio
from pyvmm.kvm.rejection import CACHEABLE_PFNMAP
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE


def examine(case: Case) -> Fault:
    """Name the cause and list the remedies."""
    cause = explain(case)
    return Fault(case.report, cause.name, cause.why, _region(case), _remedies(case, cause))


def _region(case: Case) -> str | None:
    if case.report.gpa is None:
        return None
    if case.evidence and case.evidence.slot:
        return case.evidence.backing.name if case.evidence.backing else "RAM"
    found = case.board.mmio.at(case.report.gpa)
    if found and isinstance(found.device, BackedDevice):
        return found.device.backing.name
    return None


def _remedies(case: Case, cause: Cause) -> Iterator[Remedy]:
    remedies: Iterator[Remedy] = iter(())
    if cause.name in _FOR_CASE:
        remedies = _FOR_CASE[cause.name](case)
    elif case.evidence and cause.name in _FOR_EVIDENCE:
        remedies = _FOR_EVIDENCE[cause.name](case.evidence)
    for remedy in remedies:
        if remedy.fix is not Fix.EMULATE or _is_data(case):
            yield remedy
    yield from _inject(case)


def _is_data(case: Case) -> bool:
    """No one answers for the CPU where it fetches instructions or walks tables."""
    return not case.report.detail.table and case.report.access != "exec"


def _inject(case: Case) -> Iterator[Remedy]:
    """An abort of a data access: KVM can inject no other."""
    capability = case.board.arch.ABORT_CAPABILITY
    if not capability or not case.board.vm.check(capability):
        return
    if case.report.access in ("read", "write"):
        yield Remedy(
            Fix.INJECT,
            "the guest takes a synchronous external abort",
            faithful=False,
            apply=lambda: case.board.arch.inject_abort(case.board.vcpu),
        )


def _restored(e: Evidence) -> Iterator[Remedy]:
    """Map again what pyvmm had placed there."""
    if e.placement is None or e.meant == PROT_NONE:
        return
    if kept := e.placement.fd is not None:
        how = "mapped the file again"
    else:
        how = "mapped anonymous memory again; what it held is lost and reads as zero"
    yield Remedy(Fix.REPLAY, how, faithful=kept, apply=lambda: fix.restore(e))


def _emulated(e: Evidence, mend: Remedy | None = None) -> Iterator[Remedy]:
    """Take the area out of its memslot, and answer for it.

    That goes through the region's own read and write where there is one, else from the VMM's
    memory, after a remedy to `mend` that.
    """
    if backing := e.backing:
        how = f"dropped the memslot there; accesses go through {backing.name}'s read and write"
        yield Remedy(Fix.EMULATE, how, faithful=True, apply=lambda: fix.emulate(e, backing))
    elif mend and e.slot and e.slot.memory:
        memory = fix.MappedMemory(e.slot.memory)

        def apply() -> None:
            mend.apply()
            fix.emulate(e, memory)

        how = f"{mend.how}, dropped the memslot there, and answer accesses from that memory"
        yield Remedy(Fix.EMULATE, how, faithful=mend.faithful, apply=apply)


def _unmapped(e: Evidence) -> Iterator[Remedy]:
    mend = next(_restored(e), None)
    if mend:
        yield mend
    yield from _emulated(e, mend)


def _permitted(e: Evidence) -> Iterator[Remedy]:
    needed = PROT_READ | (PROT_WRITE if e.writes else 0)
    mend = None
    if needed & ~e.meant == 0:
        how = "gave the memory back the permissions that it was placed with"
        mend = Remedy(Fix.REPLAY, how, faithful=True, apply=lambda: fix.permit(e))
        yield mend
    yield from _emulated(e, mend)


def _copied(e: Evidence) -> Iterator[Remedy]:
    if backing := e.backing:
        yield Remedy(
            Fix.REPLAY,
            f"put a private copy of {PAGE_SIZE:#x} bytes of {backing.name} there: guest and "
            "device no longer see what the other writes",
            faithful=False,
            apply=lambda: fix.copy(e, backing),
        )
        yield from _emulated(e)
    elif e.replaced:
        yield from _restored(e)


def _in_pieces(e: Evidence) -> Iterator[Remedy]:
    """Run again, it fails again: stage 2 stays Device."""
    yield Remedy(
        Fix.EMULATE,
        "carried the instruction out on the guest's behalf, in accesses that are aligned",
        faithful=True,
        apply=lambda: fix.finish(e.board, DeviceMemory(e)),
    )


def _prefaulted(e: Evidence) -> Iterator[Remedy]:
    yield Remedy(
        Fix.REPLAY,
        "wrote the word there back to itself, which makes its page table entry writable",
        # A device that the mapping still shows sees that write; a private mapping's does not.
        faithful=e.area is not None and e.area.perms.endswith("p"),
        apply=lambda: fix.prefault(e),
    )
    yield from _emulated(e)


def _switched_off(e: Evidence) -> Iterator[Remedy]:
    yield from _emulated(e)


def _lengthened(e: Evidence) -> Iterator[Remedy]:
    yield Remedy(
        Fix.REPLAY,
        "made the file as long again; what was cut off is lost and reads as zero",
        faithful=False,
        apply=lambda: fix.lengthen(e),
    )


def _another_guest_memfd(e: Evidence) -> Iterator[Remedy]:
    yield Remedy(
        Fix.REPLAY,
        "registered a new guest_memfd in its place; what it held is lost and reads as zero",
        faithful=False,
        apply=lambda: fix.renew_guest_memfd(e),
    )


def _fresh(case: Case) -> Iterator[Remedy]:
    e = case.evidence
    if e and e.placement and e.placement.fd is None:
        yield Remedy(
            Fix.REPLAY,
            "put a fresh page in the place of the poisoned one; what it held is lost",
            faithful=False,
            apply=lambda: fix.refresh(e),
        )


def _finished(case: Case) -> Iterator[Remedy]:
    yield Remedy(
        Fix.EMULATE,
        "carried the instruction out on the guest's behalf",
        faithful=True,
        apply=lambda: fix.finish(case.board, GuestMemory(case.board)),
    )


def _absent(case: Case) -> Iterator[Remedy]:
    def apply() -> None:
        assert case.evidence
        fix.leave_empty(case.evidence)
        if not isinstance(case.report.exit, Mmio):
            fix.finish(case.board, GuestMemory(case.board))

    how = "answered as an empty bus does: reads give all ones, writes are dropped"
    yield Remedy(Fix.EMULATE, how, faithful=False, apply=apply)


def _converted(case: Case) -> Iterator[Remedy]:
    yield Remedy(
        Fix.CONVERT,
        "gave the memory the attributes that the guest wants",
        faithful=True,
        apply=lambda: fix.convert(case),
    )


def _again(case: Case) -> Iterator[Remedy]:
    if case.evidence and case.evidence.slot and not case.evidence.broken:
        yield Remedy(Fix.REPLAY, "ran it again", faithful=True, apply=lambda: None)


_FOR_CASE: dict[str, Callable[[Case], Iterator[Remedy]]] = {
    "hardware-poison": _fresh,
    "mmio-no-syndrome": _finished,
    "outside-memslots": _absent,
    "memory-attributes": _converted,
    "unknown": _again,
}

_FOR_EVIDENCE: dict[str, Callable[[Evidence], Iterator[Remedy]]] = {
    "guest-memfd-closed": _another_guest_memfd,
    "hva-unmapped": _unmapped,
    "hva-no-access": _permitted,
    "hva-read-only": _permitted,
    "device-memory-off": _switched_off,
    "device-unaligned": _in_pieces,
    "pfnmap-not-writable": _prefaulted,
    CACHEABLE_PFNMAP: _copied,
    "file-truncated": _lengthened,
    "vma-replaced": _restored,
}
