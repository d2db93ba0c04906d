# SPDX-License-Identifier: GPL-2.0-only
"""Register parts of a BAR as memslots, and keep the outcome of each."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from pyvmm.errno_names import errno_name
from pyvmm.errors import UsageError
from pyvmm.kvm.memslots import MemslotError
from pyvmm.kvm.vm import Vm
from pyvmm.vfio.bars import BarMapping
from pyvmm.vfio.region_caps import Area
from pyvmm.why import Mark
from pyvmm.why.registration import CACHEABLE_PFNMAP

Cacheability = Literal["cacheable", "noncacheable", "unknown"]


@dataclass(frozen=True)
class Part:
    """A part of a region: `size` bytes at byte `offset`, which the guest sees at `gpa`."""

    region: str
    offset: int
    size: int
    gpa: int


@dataclass(frozen=True)
class SlotOutcome:
    """The outcome for one part of a BAR.

    Attributes:
        outcome: "registered" as memslot `slot`; "rejected" by KVM with `errno`; "emulated" from
            the start, because vfio does not allow mmap of it.
        cause: the condition's name in `pyvmm.why.registration`, or "unmappable".
        cacheability: of the VMA, as far as KVM's answer shows it.
        mark: how sure the cause is, or None if there is none, or it is "unknown".
    """

    part: Part
    outcome: Literal["registered", "rejected", "emulated"]
    why: str
    slot: int | None = None
    errno: str | None = None
    cause: str | None = None
    cacheability: Cacheability = "unknown"
    mark: Mark | None = None


def register(vm: Vm, bar: BarMapping, area: Area, gpa: int) -> SlotOutcome:
    """Register `area` of a mapped BAR at `gpa`; a rejection is an outcome, not an error.

    If KVM rejects cacheable PFNMAP VMAs, one that it accepts is not cacheable. If it accepts both,
    no interface tells user space which of the two a VMA is.
    """
    part = Part(bar.region.name, area.offset, area.size, gpa)
    try:
        slot = vm.memslots.add(gpa, bar.memory, at=area.offset, size=area.size)
    except MemslotError as error:
        return SlotOutcome(
            part,
            "rejected",
            errno=errno_name(error.errno),
            cause=error.cause,
            why=error.why or "",
            cacheability="cacheable" if error.cause == CACHEABLE_PFNMAP else "unknown",
            mark=error.finding.mark if error.finding else None,
        )
    return SlotOutcome(
        part,
        "registered",
        why="the guest accesses it through stage 2, without an exit",
        slot=slot.number,
        cacheability="noncacheable" if vm.host.rejects_cacheable_pfnmap else "unknown",
    )


def register_flipped(vm: Vm, bar: BarMapping, area: Area, gpa: int) -> SlotOutcome:
    """Register anonymous memory at `gpa`, then map `area` over it with MAP_FIXED.

    KVM does not see the new mapping until the guest's first access.
    """
    bar.memory.place_anonymous(at=area.offset, size=area.size)
    slot = vm.memslots.add(gpa, bar.memory, at=area.offset, size=area.size)
    bar.place(area)
    return SlotOutcome(
        Part(bar.region.name, area.offset, area.size, gpa),
        "registered",
        why="registered as anonymous memory, then the BAR was mapped over it (MAP_FIXED)",
        slot=slot.number,
    )


def require_regions(
    option: str, names: Collection[str], available: Collection[str], what: str
) -> None:
    """Raise `UsageError` if `available` lacks one of the regions `names` of an option."""
    for name in sorted(names):
        if name not in available:
            raise UsageError(
                f"{option}: no device has a region {name} {what}; choose one of "
                f"{', '.join(sorted(available)) or 'none'}"
            )
