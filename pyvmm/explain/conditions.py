# SPDX-License-Identifier: GPL-2.0-only
"""The conditions that could have made another VMM's ioctl fail, each with a mark."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from pyvmm.memory import PAGE_SIZE
from pyvmm.memory.procmap import MapsEntry
from pyvmm.memory.suspect_pages import suspect_pages
from pyvmm.memory.vma import Vma
from pyvmm.why import (
    AccessFacts,
    Finding,
    Host,
    RegistrationFacts,
    Slot,
    judge,
    kvm_run,
    registration,
    surest_first,
)


@dataclass(frozen=True)
class SlotPart:
    """The part of a memslot that one VMA backs, or that nothing backs (`vma` is None).

    `hva` and `size` are in bytes. Without known memslots, it is a VMA that could be a guest's
    memory, and `slot` is None.
    """

    slot: Slot | None
    hva: int
    size: int
    vma: Vma | None

    @property
    def gpa(self) -> int | None:
        """Return the GPA of the first byte, or None without a memslot."""
        return None if self.slot is None else self.slot.gpa + self.hva - self.slot.hva

    def at(self, gpa: int) -> "SlotPart":
        """Return the page at `gpa`, which is in this part."""
        assert self.slot
        return replace(self, hva=self.slot.hva_of(gpa) & -PAGE_SIZE, size=PAGE_SIZE)


@dataclass(frozen=True, kw_only=True)
class PartFacts(AccessFacts):
    """The facts of an access to the start of a part, whose VMA is known already."""

    known_vma: Vma | None

    @cached_property
    def vma(self) -> Vma | None:
        """Return the part's VMA."""
        return self.known_vma

    @cached_property
    def next_area(self) -> MapsEntry | None:
        """Return the part's VMA as an entry of ``/proc/PID/maps``."""
        if (vma := self.known_vma) is None:
            return None
        return MapsEntry(vma.start, vma.end, vma.perms, vma.offset, vma.path)


def suspect_parts(part: SlotPart, pid: int) -> Iterator[SlotPart]:
    """Yield the pages of a part that a guest may be unable to access."""
    if part.vma is None:
        return
    for hva in suspect_pages(part.vma, pid):
        if part.hva < hva < part.hva + part.size:
            yield replace(part, hva=hva, size=PAGE_SIZE)


def part_facts(part: SlotPart, host: Host, pid: int, errno: int) -> PartFacts:
    """Return the facts of an access of unknown kind to a part of a memslot."""
    slot = part.slot or Slot(-1, part.hva, part.size, part.hva)
    return PartFacts(
        errno=errno,
        host=host,
        exit="run_failure",
        known_gpa=slot.gpa + part.hva - slot.hva,
        slot_known=True,
        known_slot=slot,
        pid=pid,
        known_vma=part.vma,
    )


def of_registration(
    host: Host, slot: Slot, errno: int, slots: Collection[Slot] | None, pid: int | None
) -> list[Finding]:
    """Judge a rejected memslot, the surest findings first.

    `slots` are the VM's memslots before the request, and `pid` the process that made it if its
    mappings are still the same; None if not known.
    """
    facts = RegistrationFacts(errno=errno, host=host, slot=slot, known_slots=slots, pid=pid)
    return surest_first(judge(registration.CONDITIONS, facts))


def of_run(
    host: Host,
    errno: int,
    parts: Sequence[SlotPart] | None,
    gpa: int | None,
    pid: int | None,
) -> list[Finding]:
    """Judge a failed ``KVM_RUN``, the surest findings first.

    `parts` are those of every memslot, and `gpa` is the GPA accessed; None if not known. The
    judgement is on the present state: what was fixed since the failure is not found.
    """
    if parts is None or pid is None:
        facts = AccessFacts(errno=errno, host=host, exit="run_failure", known_gpa=gpa)
        return surest_first(judge(kvm_run.CONDITIONS, facts))
    if gpa is None:
        parts = [place for part in parts for place in (part, *suspect_parts(part, pid))]
    else:
        parts = [p.at(gpa) for p in parts if p.gpa is not None and p.gpa <= gpa < p.gpa + p.size]
        if not parts:
            facts = AccessFacts(errno=errno, host=host, known_gpa=gpa, slot_known=True)
            return surest_first(judge(kvm_run.CONDITIONS, facts))
    judged = [list(judge(kvm_run.CONDITIONS, part_facts(p, host, pid, errno))) for p in parts]
    return surest_first(_combined(parts, judged, certain=gpa is not None))


def _combined(
    parts: Sequence[SlotPart], judged: Sequence[Sequence[Finding]], *, certain: bool
) -> Iterator[Finding]:
    """Yield one finding per condition for all parts.

    Unless it is `certain` which part the guest accessed, a broken condition is only inferred.
    """
    for findings in zip(*judged, strict=True):
        hits = [
            (part, finding)
            for part, finding in zip(parts, findings, strict=True)
            if finding.mark != "impossible" and finding.needs is None
        ]
        if not hits:
            yield next((f for f in findings if f.needs), findings[0])
            continue
        part, finding = hits[0]
        number = part.slot.number if part.slot else "?"
        why = f"slot {number}, GPA {part.gpa or 0:#x}, HVA {part.hva:#x}: {finding.why}"
        if len(hits) > 1:
            why += f" (and {len(hits) - 1} more such places)"
        yield replace(finding, why=why, mark=finding.mark if certain else "inferred")
