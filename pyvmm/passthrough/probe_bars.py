# SPDX-License-Identifier: GPL-2.0-only
"""Let a guest touch an assigned device's BARs, with each memory type that it may pick.

The VMM's own mapping stays what vfio gives, and KVM derives stage-2 from it; what the guest's
stage-1 adds is the one choice that a VM has, so that is what is varied. Each probe is a run of
its own, so that its exits and faults are its own too.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from pyvmm.arch.page_tables import MemoryType, Window
from pyvmm.errors import UsageError
from pyvmm.guest import probe as guest
from pyvmm.guest.probe import Op
from pyvmm.kvm.exits import Exit, Halt, SystemEvent
from pyvmm.machine.machine import ARGUMENT_BLOCK, Machine
from pyvmm.memory.mapping import round_up
from pyvmm.passthrough.assigned import AssignedDevice, PlacedBar

WIDTH = 4  # bytes: what every device's registers can be read in
PAYLOAD = "probe"

# Where the guest sees GPA 0 in each memory type: three copies of the physical addresses, within
# the 47 bits that x86-64's four levels leave to one half.
VIEWS = {kind: n << 44 for n, kind in enumerate(MemoryType, start=1)}

Result = Literal["ok", "abort", "fault", "skipped"]

_RESULTS: dict[guest.Outcome, Result] = {
    guest.Outcome.OK: "ok",
    guest.Outcome.ABORT: "abort",
    guest.Outcome.NOT_RUN: "skipped",
}


@dataclass(frozen=True)
class Write:
    """A write that the user asked for: `value` of 4 bytes at byte `offset` of a BAR."""

    region: str
    offset: int
    value: int


@dataclass(frozen=True)
class Probed:
    """One access by the guest, and what came of it.

    `offset` and `width` are in bytes; `exits` counts by kind how often the access left the guest.
    `ending` is the exit that stopped the guest, where it was stopped (`fault`).
    """

    bdf: str
    region: str
    offset: int
    width: int
    attribute: str
    access: Literal["read", "write"]
    result: Result
    value: int
    syndrome: int
    exits: dict[str, int]
    ending: Exit | None


def windows(bars: Iterable[PlacedBar], *, writable: bool) -> Iterator[Window]:
    """What the guest's page tables have to say: every BAR, once a memory type."""
    for bar in bars:
        for kind, base in VIEWS.items():
            size = round_up(bar.region.size)
            yield Window(base + bar.gpa, bar.gpa, size, kind, writable=writable)


def probe(
    machine: Machine, device: AssignedDevice, writes: Iterable[Write] = ()
) -> Iterator[Probed]:
    """Read the first and last word of each part of each BAR, once with each memory type.

    `writes` come first, each with every memory type and read back; what was there before is put
    back at the end. The machine must be loaded with the payload `PAYLOAD` and with `windows`.
    Raises `UsageError` for a write to what is not there.
    """
    bars = {bar.region.name: bar for bar in device.bars}
    bdf = str(device.device.function)
    with ExitStack() as undo:
        for write in writes:
            bar = _target(bars, write)
            before = bar.region.read(write.offset, WIDTH)
            undo.callback(bar.region.write, write.offset, before)
            for kind in MemoryType:
                yield _run(machine, bdf, bar, write.offset, kind, Op.WRITE, write.value)
                yield _run(machine, bdf, bar, write.offset, kind, Op.READ)
        for bar in bars.values():
            for offset in _words(bar):
                for kind in MemoryType:
                    yield _run(machine, bdf, bar, offset, kind, Op.READ)


def _target(bars: dict[str, PlacedBar], write: Write) -> PlacedBar:
    bar = bars.get(write.region)
    if bar is None:
        there = ", ".join(bars) or "none"
        raise UsageError(f"the device has no {write.region} to write to; its BARs: {there}")
    if write.offset % WIDTH or not 0 <= write.offset <= bar.region.size - WIDTH:
        raise UsageError(
            f"{write.region}+{write.offset:#x} is no aligned word of its {bar.region.size:#x} bytes"
        )
    return bar


def _words(bar: PlacedBar) -> list[int]:
    """Offsets of the first and last word of each part, in order, each once."""
    parts = (outcome.part for outcome in bar.slots)
    ends = ((part.offset, part.offset + part.size - WIDTH) for part in parts)
    return sorted({offset for pair in ends for offset in pair if offset >= 0})


def _run(
    machine: Machine,
    bdf: str,
    bar: PlacedBar,
    offset: int,
    kind: MemoryType,
    op: Op,
    value: int = 0,
) -> Probed:
    access = guest.Probe(VIEWS[kind] + bar.gpa + offset, WIDTH, op, value)
    block = guest.pack([access])
    machine.enter(block)
    outcome = machine.run()
    [answer] = guest.answers([access], machine.read(ARGUMENT_BLOCK, len(block)))
    ended = isinstance(outcome.ending, SystemEvent | Halt)
    exits = dict(outcome.exits)
    if ended:
        del exits[outcome.ending.kind]  # the payload's own end, once
    return Probed(
        bdf=bdf,
        region=bar.region.name,
        offset=offset,
        width=WIDTH,
        attribute=machine.arch.MEMORY_TYPES[kind],
        access="write" if op is Op.WRITE else "read",
        result=_RESULTS[answer.outcome] if ended else "fault",
        value=answer.value,
        syndrome=answer.syndrome,
        exits=exits,
        ending=None if ended else outcome.ending,
    )
