# SPDX-License-Identifier: GPL-2.0-only
"""Why KVM could not resolve an access.

The rules are asked in turn, and the first with an answer names the cause. They follow the kernel:
kvm_handle_guest_abort and user_mem_abort in arch/arm64/kvm/mmu.c, hva_to_pfn in
virt/kvm/kvm_main.c, __kvm_gmem_get_pfn in virt/kvm/guest_memfd.c. What cannot be told apart from
user space is said to be so.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from pyvmm.errno_names import EHWPOISON, errno_name
from pyvmm.faults.board import Board
from pyvmm.faults.evidence import Evidence
from pyvmm.faults.poison import Poisoned
from pyvmm.faults.report import FaultReport
from pyvmm.kvm.exits import ArmLdst64b, ArmNisv, ArmSea, MemoryFault
from pyvmm.kvm.rejection import CACHEABLE_PFNMAP
from pyvmm.memory import PROT_READ, PROT_WRITE
from pyvmm.uapi.kvm import (
    KVM_CAP_MEMORY_ATTRIBUTES,
    KVM_MEMORY_EXIT_FLAG_PRIVATE,
)


class Cause(NamedTuple):
    """A name to script against, and the sentence for a person."""

    name: str
    why: str


@dataclass(frozen=True)
class Case:
    """A report, and the machine that it is about."""

    report: FaultReport
    board: Board

    @cached_property
    def evidence(self) -> Evidence | None:
        """What is behind the address; None where the address could not be told."""
        report = self.report  # a reference to the case would be a circle, for the collector alone
        if report.gpa is None:
            return None
        return Evidence(self.board, report.gpa, lambda: report.access, lambda: report.detail.misfit)


def explain(case: Case) -> Cause:
    """The first rule that tells why."""
    for name, rule in _BY_EXIT:
        if why := next(rule(case), None):
            return Cause(name, why)
    if case.evidence is None:
        return Cause("unknown", f"the address could not be told: {case.report.detail.untold}")
    for name, look in _BY_EVIDENCE:
        if why := next(look(case.evidence), None):
            return Cause(name, why)
    if case.evidence.broken:
        return Cause("unknown", "the memory cannot be had, and no rule that pyvmm knows says why")
    return Cause("unknown", "nothing is wrong with the memory now: it may have been put right")


# What the exit itself says.


def _external_abort(case: Case) -> Iterator[str]:
    if isinstance(case.report.exit, ArmSea):
        esr = case.report.exit.esr
        yield f"the memory or device did not answer: a synchronous external abort (ESR {esr:#x})"


def _poison(case: Case) -> Iterator[str]:
    if isinstance(case.report.exit, Poisoned):
        yield (
            f"the hardware has given up on the memory at HVA {case.report.exit.hva:#x}: "
            "KVM sent SIGBUS (BUS_MCEERR_AR)"
        )
    elif case.report.errno == errno_name(EHWPOISON):
        yield "the hardware has given up on the memory: KVM_RUN failed with EHWPOISON"


def _no_syndrome(case: Case) -> Iterator[str]:
    exit = case.report.exit
    if isinstance(exit, ArmNisv | ArmLdst64b) and case.board.mmio.at(exit.fault_ipa):
        yield (
            "the CPU's syndrome does not describe this kind of access (ESR_EL2.ISV is 0), "
            "so KVM makes no MMIO exit of it"
        )


def _attributes(case: Case) -> Iterator[str]:
    exit = case.report.exit
    if not isinstance(exit, MemoryFault) or case.evidence is None:
        return
    if case.evidence.slot and case.evidence.offers(KVM_CAP_MEMORY_ATTRIBUTES):
        kind = "private" if exit.flags & KVM_MEMORY_EXIT_FLAG_PRIVATE else "shared"
        yield f"the guest wants the memory {kind}, and its attributes say otherwise"


# What is behind the address.


def _outside(e: Evidence) -> Iterator[str]:
    if e.slot is None:
        yield f"no memslot backs GPA {e.gpa:#x}, and no device of the VMM's is there"
    elif e.slot.readonly and e.writes:
        yield f"slot {e.slot.number} is read-only, and no device of the VMM's takes writes there"


def _guest_memfd_closed(e: Evidence) -> Iterator[str]:
    if e.slot and e.slot.guest_memfd and e.slot.guest_memfd.closed:
        yield f"the guest_memfd of slot {e.slot.number} was closed"


def _unmapped(e: Evidence) -> Iterator[str]:
    if e.slot and not e.slot.guest_memfd and e.area is None:
        yield f"nothing is mapped at HVA {e.page:#x}, behind slot {e.slot.number}"


def _no_access(e: Evidence) -> Iterator[str]:
    if e.area and not e.area_allows(PROT_READ):
        yield f"HVA {e.page:#x} may not be read (mapped {e.area.perms})"


def _read_only(e: Evidence) -> Iterator[str]:
    if e.area and e.writes and not e.area_allows(PROT_WRITE):
        yield f"HVA {e.page:#x} may not be written (mapped {e.area.perms})"


def _device_trouble(e: Evidence) -> Iterator[str]:
    if e.backing and e.area and (failure := e.backing.failure()):
        yield f"{failure}: an access through {e.backing.name} is a SIGBUS"


def _device_unaligned(e: Evidence) -> Iterator[str]:
    # What the guest writes of a private mapping has to be a copy first, in ordinary memory.
    copied = e.writes and e.area is not None and e.area.perms.endswith("p")
    if e.misfit and not copied and e.device_in_stage2:
        yield (
            f"the access {e.misfit}; that is no fault where the guest's stage 1 says Normal, but "
            f"HVA {e.page:#x} is device memory (PFNMAP) that, by its VMA, KVM maps as Device in "
            "stage 2, and an alignment fault there it does not handle"
        )


def _not_writable_yet(e: Evidence) -> Iterator[str]:
    if not e.writes or not e.pfnmap or e.area is None:
        return
    if e.area.perms.endswith("p"):
        yield (
            f"HVA {e.page:#x} is device memory (PFNMAP) mapped privately: its page table entry "
            "lets no one write until user space has, and KVM does not ask for that"
        )
    elif not e.refused_as_cacheable:
        yield (
            f"HVA {e.page:#x} is device memory (PFNMAP) that may be written; its page table entry "
            "must be one that does not allow it yet, for which KVM does not ask"
        )


def _cacheable_pfnmap(e: Evidence) -> Iterator[str]:
    if e.refused_as_cacheable:
        name = e.backing.name if e.backing else f"HVA {e.page:#x}"
        yield (
            f"{name} is device memory (PFNMAP) mapped cacheable, and "
            "KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED is 0: the CPU must have both FWB and DIC, or "
            "the host could see stale cache lines; registering it would have been refused, so it "
            "came there afterwards"
        )


def _truncated(e: Evidence) -> Iterator[str]:
    if e.readable or e.replaced or (size := e.file_size) is None or e.placement is None:
        return
    if e.placement.offset >= size:
        yield (
            f"the file behind HVA {e.page:#x} ends at byte {size:#x}, before the page at byte "
            f"{e.placement.offset:#x}: an access is a SIGBUS"
        )


def _replaced(e: Evidence) -> Iterator[str]:
    if e.area and e.replaced:
        yield (
            f"{e.area.path or 'anonymous memory'} was mapped over HVA {e.page:#x}, where pyvmm had "
            "placed something else"
        )


_BY_EXIT: tuple[tuple[str, Callable[[Case], Iterator[str]]], ...] = (
    ("external-abort", _external_abort),
    ("hardware-poison", _poison),
    ("mmio-no-syndrome", _no_syndrome),
    ("memory-attributes", _attributes),
)

_BY_EVIDENCE: tuple[tuple[str, Callable[[Evidence], Iterator[str]]], ...] = (
    ("outside-memslots", _outside),
    ("guest-memfd-closed", _guest_memfd_closed),
    ("hva-unmapped", _unmapped),
    ("hva-no-access", _no_access),
    ("hva-read-only", _read_only),
    ("device-memory-off", _device_trouble),
    ("device-unaligned", _device_unaligned),
    ("pfnmap-not-writable", _not_writable_yet),
    (CACHEABLE_PFNMAP, _cacheable_pfnmap),
    ("file-truncated", _truncated),
    ("vma-replaced", _replaced),
)

CAUSES = (*(name for name, _ in _BY_EXIT), *(name for name, _ in _BY_EVIDENCE), "unknown")
