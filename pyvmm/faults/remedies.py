# SPDX-License-Identifier: GPL-2.0-only
"""The remedies for a fault, and what each costs the guest.

A condition in `pyvmm.why.kvm_run` names its remedies; here is one function for each name.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pyvmm.faults import repairs
from pyvmm.faults.access_facts import GuestAccessFacts
from pyvmm.faults.aligned_memory import AlignedDeviceMemory
from pyvmm.faults.context import VcpuContext
from pyvmm.faults.fault import Fix, Remedy
from pyvmm.faults.guest_memory import GuestMemory
from pyvmm.faults.report import FaultReport
from pyvmm.kvm.exits import Mmio
from pyvmm.memory import PAGE_SIZE, PROT_READ, PROT_WRITE
from pyvmm.why import kvm_run


class _Case(NamedTuple):
    """A fault to be remedied; `repaired` are the remedies found for it so far."""

    report: FaultReport
    facts: GuestAccessFacts
    context: VcpuContext
    repaired: Sequence[Remedy]


def offer(
    cause: str, report: FaultReport, facts: GuestAccessFacts, context: VcpuContext
) -> tuple[Remedy, ...]:
    """Return the remedies for a fault of this cause, the preferred one first."""
    remedies: list[Remedy] = []
    names = _OF_CONDITION.get(cause, ("retry",)) if report.gpa is not None else ()
    # KVM's emulation and ours cover data accesses only, not fetches and table walks.
    data = not report.table and report.access != "exec"
    for name in (*names, "inject"):
        remedy = _BY_NAME[name](_Case(report, facts, context, remedies))
        if remedy and (data or remedy.fix is not Fix.EMULATE):
            remedies.append(remedy)
    return tuple(remedies)


def _inject(case: _Case) -> Remedy | None:
    """Inject an abort. KVM offers it for data accesses only (KVM_CAP_ARM_INJECT_EXT_DABT)."""
    arch, vcpu = case.context.arch, case.context.vcpu
    if not arch.ABORT_CAPABILITY or not case.context.vm.offers(arch.ABORT_CAPABILITY):
        return None
    if case.report.access not in ("read", "write"):
        return None
    how = "the guest takes a synchronous external abort"
    return Remedy(Fix.INJECT, how, faithful=False, apply=lambda: arch.inject_abort(vcpu))


def _restore(case: _Case) -> Remedy | None:
    facts = case.facts
    if facts.mapping is None or facts.placement is None or not facts.placement.prot:
        return None
    is_file = facts.placement.fd is not None
    how = (
        "mapped the file again"
        if is_file
        else "mapped anonymous memory again; its contents are lost and read as zero"
    )
    return Remedy(Fix.REPLAY, how, faithful=is_file, apply=lambda: repairs.restore(facts))


def _restore_replaced(case: _Case) -> Remedy | None:
    facts = case.facts
    if facts.mapping is None or facts.mapping.backing or not facts.replaced:
        return None
    return _restore(case)


def _protect(case: _Case) -> Remedy | None:
    facts = case.facts
    needed = PROT_READ | (PROT_WRITE if case.report.access == "write" else 0)
    if facts.mapping is None or facts.placement is None or needed & ~facts.placement.prot:
        return None
    how = "restored the permissions that the memory was mapped with"
    return Remedy(Fix.REPLAY, how, faithful=True, apply=lambda: repairs.protect(facts))


def _emulate_region(case: _Case) -> Remedy | None:
    """Drop the memslot over the mapping; emulate accesses through the region behind it."""
    facts, context = case.facts, case.context
    if facts.mapping is None or (backing := facts.mapping.backing) is None:
        return None
    return Remedy(
        Fix.EMULATE,
        f"dropped the memslot; accesses go through {backing.name}'s read and write",
        faithful=True,
        apply=lambda: repairs.emulate(facts, context, backing),
    )


def _emulate(case: _Case) -> Remedy | None:
    """Emulate through the region, or else drop the memslot and emulate on the repaired memory."""
    facts, context = case.facts, case.context
    if remedy := _emulate_region(case):
        return remedy
    if facts.mapping is None or not case.repaired:
        return None
    repair, memory = case.repaired[0], repairs.MappedMemory(facts.mapping)

    def apply() -> None:
        with context.vm.paused():
            repair.apply()
            repairs.emulate(facts, context, memory)

    how = f"{repair.how}, dropped the memslot, and emulate accesses to that memory"
    return Remedy(Fix.EMULATE, how, faithful=repair.faithful, apply=apply)


def _copy(case: _Case) -> Remedy | None:
    facts, context = case.facts, case.context
    if facts.mapping is None or (backing := facts.mapping.backing) is None:
        return None
    how = (
        f"mapped a private copy of {PAGE_SIZE:#x} bytes of {backing.name}: guest and device no "
        "longer see each other's writes"
    )
    return Remedy(
        Fix.REPLAY, how, faithful=False, apply=lambda: repairs.copy(facts, context, backing)
    )


def _emulate_aligned(case: _Case) -> Remedy | None:
    """Emulate the instruction once: replaying it fails again, since stage 2 stays Device."""
    facts, context = case.facts, case.context
    # Through a `backing`, vfio makes the aligned accesses (vfio_pci_core_do_io_rw).
    backed = facts.mapping is not None and facts.mapping.backing is not None
    memory = GuestMemory(context) if backed else AlignedDeviceMemory(facts, context)
    return Remedy(
        Fix.EMULATE,
        "emulated the instruction with aligned accesses",
        faithful=True,
        apply=lambda: repairs.emulate_instruction(context, memory),
    )


def _prefault(case: _Case) -> Remedy | None:
    facts, context = case.facts, case.context
    return Remedy(
        Fix.REPLAY,
        "wrote the word back to itself, which makes its host PTE writable",
        # A device behind a shared mapping sees that write; a private mapping's does not.
        faithful=facts.private_mapping,
        apply=lambda: repairs.prefault(facts, context),
    )


def _extend_file(case: _Case) -> Remedy | None:
    facts = case.facts
    if facts.mapping is None or facts.placement is None or facts.placement.fd is None:
        return None
    return Remedy(
        Fix.REPLAY,
        "extended the file to its former size; the truncated part reads as zero",
        faithful=False,
        apply=lambda: repairs.extend_file(facts),
    )


def _new_guest_memfd(case: _Case) -> Remedy | None:
    return Remedy(
        Fix.REPLAY,
        "registered a new guest_memfd in its place; its contents are lost and read as zero",
        faithful=False,
        apply=lambda: repairs.renew_guest_memfd(case.facts, case.context),
    )


def _fresh_page(case: _Case) -> Remedy | None:
    facts = case.facts
    if facts.mapping is None or not facts.placement or facts.placement.fd is not None:
        return None
    return Remedy(
        Fix.REPLAY,
        "mapped a fresh page in its place; its contents are lost",
        faithful=False,
        apply=lambda: repairs.replace_page(facts),
    )


def _emulate_instruction(case: _Case) -> Remedy | None:
    context = case.context
    return Remedy(
        Fix.EMULATE,
        "emulated the instruction",
        faithful=True,
        apply=lambda: repairs.emulate_instruction(context, GuestMemory(context)),
    )


def _empty_bus(case: _Case) -> Remedy | None:
    gpa, context, exit = case.facts.gpa, case.context, case.report.exit

    def apply() -> None:
        repairs.attach_empty_bus(gpa, context)
        if not isinstance(exit, Mmio):
            repairs.emulate_instruction(context, GuestMemory(context))

    how = "responded as an empty bus: reads return all ones, writes are dropped"
    return Remedy(Fix.EMULATE, how, faithful=False, apply=apply)


def _convert(case: _Case) -> Remedy | None:
    return Remedy(
        Fix.CONVERT,
        "set the memory attributes that the guest expects",
        faithful=True,
        apply=lambda: repairs.convert(case.report.exit, case.context),
    )


def _retry(case: _Case) -> Remedy | None:
    facts = case.facts
    if facts.slot is None or not facts.readable:
        return None
    return Remedy(Fix.REPLAY, "replayed the access", faithful=True, apply=lambda: None)


_BY_NAME: dict[str, Callable[[_Case], Remedy | None]] = {
    "convert": _convert,
    "copy": _copy,
    "emulate": _emulate,
    "emulate_aligned": _emulate_aligned,
    "emulate_instruction": _emulate_instruction,
    "emulate_region": _emulate_region,
    "empty_bus": _empty_bus,
    "extend_file": _extend_file,
    "fresh_page": _fresh_page,
    "inject": _inject,
    "new_guest_memfd": _new_guest_memfd,
    "prefault": _prefault,
    "protect": _protect,
    "restore": _restore,
    "restore_replaced": _restore_replaced,
    "retry": _retry,
}
DESCRIPTIONS = {
    "convert": "set the memory attributes that the guest expects (KVM_SET_MEMORY_ATTRIBUTES)",
    "copy": "map a private copy of the page: guest and device no longer see each other's writes",
    "emulate": "drop the memslot, and emulate accesses through the device or on repaired memory",
    "emulate_aligned": "emulate the instruction with aligned accesses",
    "emulate_instruction": "emulate the instruction",
    "emulate_region": "drop the memslot, and emulate accesses through vfio's read and write",
    "empty_bus": "respond as an empty bus: reads return all ones, writes are dropped",
    "extend_file": "extend the file to its former size: the truncated part reads as zero",
    "fresh_page": "map a fresh page in its place: the contents are lost",
    "inject": "let the guest take a synchronous external abort",
    "new_guest_memfd": "register a new guest_memfd in its place: the contents are lost",
    "prefault": "write the word back to itself, so that its host PTE is writable",
    "protect": "restore the permissions that the memory was mapped with",
    "restore": "map the file or anonymous memory again; anonymous memory loses its contents",
    "restore_replaced": "map the memory again that the memslot was registered with",
    "retry": "replay the access, where the memory is accessible by now",
}
"""What each remedy does, for a person."""
NAMES = tuple(_BY_NAME)
_OF_CONDITION = {each.name: each.remedies for each in kvm_run.CONDITIONS}
