# SPDX-License-Identifier: GPL-2.0-only
"""Registering parts of a BAR as memslots, and what became of each part."""

from dataclasses import dataclass
from typing import Literal

from pyvmm.caps import Report
from pyvmm.errno_names import errno_name
from pyvmm.kvm.memslots import MemslotError
from pyvmm.kvm.rejection import CACHEABLE_PFNMAP
from pyvmm.kvm.vm import Vm
from pyvmm.vfio.bars import BarMapping
from pyvmm.vfio.region_caps import Area

Cacheability = Literal["cacheable", "noncacheable", "unknown"]


@dataclass(frozen=True)
class Part:
    """A part of a region: `size` bytes from byte `offset`, for the guest at `gpa`."""

    region: str
    offset: int
    size: int
    gpa: int


@dataclass(frozen=True)
class SlotOutcome:
    """What became of a part: a memslot with a number, or accesses that the VMM answers.

    `emulated` was never tried: vfio lets no one map it.
    """

    part: Part
    outcome: Literal["registered", "rejected", "emulated"]
    why: str
    slot: int | None = None
    errno: str | None = None
    cause: str | None = None
    cacheability: Cacheability = "unknown"
    fallback: Literal["emulate"] | None = None


def register(vm: Vm, bar: BarMapping, area: Area, gpa: int, caps: Report) -> SlotOutcome:
    """Make `area` of a mapped BAR a memslot at `gpa`; a rejection is an outcome, not an error.

    What a rejection rests on is the CPU's, and `caps` tells it. Where this kernel does not take a
    cacheable PFNMAP VMA, one that it took is not cacheable; where it takes both, no interface
    tells user space which of the two a VMA is.
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
            why=_why(error, caps),
            cacheability="cacheable" if error.cause == CACHEABLE_PFNMAP else "unknown",
            fallback="emulate",
        )
    return SlotOutcome(
        part,
        "registered",
        why="the guest reaches it through stage-2, with no exit",
        slot=slot.number,
        cacheability="unknown" if caps.takes_cacheable_pfnmap else "noncacheable",
    )


def register_flipped(vm: Vm, bar: BarMapping, area: Area, gpa: int) -> SlotOutcome:
    """Register anonymous memory, and then map `area` over it: KVM is not asked about that.

    What it would have said at registration, the guest's first access finds out.
    """
    fd, start = bar.region.device.fileno(), bar.region.offset + area.offset
    [meant] = bar.memory.placements.within(area.offset, area.end)
    bar.memory.place_anonymous(at=area.offset, size=area.size)
    slot = vm.memslots.add(gpa, bar.memory, at=area.offset, size=area.size)
    bar.memory.place(fd, start, at=area.offset, size=area.size, prot=meant.prot)
    return SlotOutcome(
        Part(bar.region.name, area.offset, area.size, gpa),
        "registered",
        why="anonymous memory was registered, and the device's mapped over it behind KVM's back",
        slot=slot.number,
    )


def _why(error: MemslotError, caps: Report) -> str:
    obstacle = caps.features and caps.features.why_no_cacheable_pfnmap()
    if error.cause == CACHEABLE_PFNMAP and obstacle:
        return f"{error.why}: {obstacle}"
    return error.why or ""
