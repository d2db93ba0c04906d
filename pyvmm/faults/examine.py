# SPDX-License-Identifier: GPL-2.0-only
"""Examine a fault: locate the access, collect its facts, judge KVM's conditions on them."""

from dataclasses import replace
from typing import NamedTuple

from pyvmm.faults.access_facts import GuestAccessFacts, facts_of
from pyvmm.faults.context import VcpuContext
from pyvmm.faults.fault import Fault
from pyvmm.faults.guest_memory import BackedDevice
from pyvmm.faults.locate import locate
from pyvmm.faults.poison import Poisoned
from pyvmm.faults.remedies import offer
from pyvmm.faults.report import FaultReport
from pyvmm.kvm.exits import Exit
from pyvmm.why import Finding, kvm_run, most_likely, pfnmap

UNKNOWN = "unknown"
_WEAK = (kvm_run.REPLACED, pfnmap.DEVICE_NOT_READY)


class _Judged(NamedTuple):
    """A candidate for the access that faulted, and the condition that it fulfils, if any."""

    report: FaultReport
    facts: GuestAccessFacts
    finding: Finding | None


def examine(exit: Exit | Poisoned, context: VcpuContext) -> Fault:
    """Return the fault behind an exit: the access, the cause, the remedies."""
    report, facts, finding = _choose(exit, context)
    cause, why = (finding.name, finding.why) if finding else (UNKNOWN, _no_condition(report, facts))
    remedies = offer(cause, report, facts, context)
    mark = finding.mark if finding else None
    return Fault(report, cause, why, _region(facts, context), remedies, mark)


def _choose(exit: Exit | Poisoned, context: VcpuContext) -> _Judged:
    """Return the candidate that explains the fault best.

    In this order: the first one that fulfils a condition; the first one that the host cannot
    read, for no known reason, PFNMAP memory last, since the host never reads that; one that
    fulfils a condition which healthy memory fulfils too.
    """
    judged = []
    for report in locate(exit, context):
        facts = facts_of(report, context)
        candidate = _Judged(report, facts, most_likely(kvm_run.CONDITIONS, facts))
        if candidate.finding and candidate.finding.name not in _WEAK:
            return candidate
        judged.append(candidate)
    if judged[0].report.gpa is None or judged[0].report.source == "kernel":
        return judged[0]
    for candidate in sorted(judged, key=lambda each: each.facts.pfnmap):
        if candidate.facts.slot and not candidate.facts.readable:
            return candidate
    for candidate in judged:
        if candidate.finding:
            return candidate
    report = judged[0].report
    every = "every page that the instruction accesses is accessible now"
    report = replace(report, gpa=None, va=None, size=0, access=None, incomplete=every)
    return _Judged(report, facts_of(report, context), None)


def _no_condition(report: FaultReport, facts: GuestAccessFacts) -> str:
    if report.gpa is None:
        return f"the address is not known: {report.incomplete}"
    if facts.slot and facts.pfnmap:
        return "it is device memory (PFNMAP), and no condition that pyvmm knows explains the fault"
    if facts.slot and not facts.readable:
        return "the memory is not accessible, for no reason that pyvmm knows"
    return "the memory is accessible now; it may have been fixed since the fault"


def _region(facts: GuestAccessFacts, context: VcpuContext) -> str | None:
    """Return the name of what the guest accessed, such as "BAR4" or "RAM", or None."""
    if facts.known_gpa is None:
        return None
    if facts.memslot:
        return facts.mapping.backing.name if facts.mapping and facts.mapping.backing else "RAM"
    found = context.mmio.at(facts.known_gpa)
    if found and isinstance(found.device, BackedDevice):
        return found.device.backing.name
    return None
