# SPDX-License-Identifier: GPL-2.0-only
"""Guest accesses to an assigned device's BARs, with each stage-1 memory type.

KVM derives stage 2 from the VMM's mapping, which vfio decides. The guest's stage 1 is the only
choice that a VM has, so the probes vary it. Each probe is a run of its own, so that exits and
faults can be attributed to it.
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

WIDTH = 4  # bytes; every device's registers can be read in this width
PAYLOAD = "probe"

# The GVA of GPA 0 in each memory type: three aliases of the physical address space, within the
# 47 bits of the lower half on x86-64 with four levels.
ALIASES = {kind: n << 44 for n, kind in enumerate(MemoryType, start=1)}

Result = Literal["ok", "abort", "fault", "skipped"]

_RESULTS: dict[guest.ProbeOutcome, Result] = {
    guest.ProbeOutcome.OK: "ok",
    guest.ProbeOutcome.ABORT: "abort",
    guest.ProbeOutcome.NOT_RUN: "skipped",
}


@dataclass(frozen=True)
class Write:
    """A write that the user requests: `value` of 4 bytes at byte `offset` of a BAR."""

    region: str
    offset: int
    value: int


@dataclass(frozen=True)
class BarProbe:
    """One access by the guest and its result.

    Attributes:
        bdf: the device's PCI address.
        region: the BAR's name.
        offset: offset in the BAR, in bytes.
        width: width of the access, in bytes.
        attribute: the stage-1 memory type, as `arch` names it.
        access: ``read`` or ``write``.
        result: ``abort`` if the guest took an exception, ``fault`` if the access stopped the guest.
        value: the value read or written.
        syndrome: the guest's exception syndrome for ``abort``, else 0.
        exits: number of exits by kind.
        ending: the exit that stopped the guest for ``fault``, else None.
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
    """Yield the windows of the guest's page tables: each BAR once per memory type."""
    for bar in bars:
        for kind, base in ALIASES.items():
            size = round_up(bar.region.size)
            yield Window(base + bar.gpa, bar.gpa, size, kind, writable=writable)


def probe(
    machine: Machine, device: AssignedDevice, writes: Iterable[Write] = ()
) -> Iterator[BarProbe]:
    """Read the first and last word of each part of each BAR, once with each memory type.

    `writes` come first: each is made and read back with every memory type, and the old value is
    restored at the end. The machine must be loaded with the payload `PAYLOAD` and with `windows`.

    Raises `UsageError` for a write outside the device's BARs.
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
        names = ", ".join(bars) or "none"
        raise UsageError(f"--write: the device has no {write.region}; its BARs: {names}")
    if write.offset % WIDTH or not 0 <= write.offset <= bar.region.size - WIDTH:
        raise UsageError(
            f"--write: {write.region}+{write.offset:#x} is not {WIDTH}-byte aligned or not within "
            f"the BAR's {bar.region.size:#x} bytes"
        )
    return bar


def _words(bar: PlacedBar) -> list[int]:
    """Return the offsets of the first and last word of each part, sorted and unique."""
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
) -> BarProbe:
    access = guest.Probe(ALIASES[kind] + bar.gpa + offset, WIDTH, op, value)
    block = guest.pack([access])
    machine.enter(block)
    outcome = machine.run()
    [answer] = guest.unpack([access], machine.read(ARGUMENT_BLOCK, len(block)))
    ended = isinstance(outcome.last_exit, SystemEvent | Halt)
    exits = dict(outcome.exits)
    if ended:
        del exits[outcome.last_exit.kind]  # the exit that ends the payload
    return BarProbe(
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
        ending=None if ended else outcome.last_exit,
    )
