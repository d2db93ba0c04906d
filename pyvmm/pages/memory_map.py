# SPDX-License-Identifier: GPL-2.0-only
"""The layout of a picture of guest memory: RAM, memslots, BARs, and the faults on them.

The picture is not to scale: a block's height grows with the logarithm of its size, and unused
addresses have a constant height.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pyvmm.pages.documents import Document
from pyvmm.units import size

Kind = Literal["ram", "memslot", "emulated", "rejected"]

LINE = 18  # between the baselines of two lines of text
_BLOCK, _GAP = 52, 30
_SHOWN_FAULTS = 6  # of each block
_KINDS: dict[str, Kind] = {"registered": "memslot", "rejected": "rejected"}
_TYPE = re.compile(r"(?:Normal|Device)-\w+")


@dataclass(frozen=True)
class Line:
    """A line of text at `y`; one about a fault has the position of its arrow as well."""

    y: int
    text: str
    arrow: int | None = None


@dataclass(frozen=True)
class Block:
    """Guest memory from `first` to `last`; a gap if it has no `kind`."""

    first: str
    last: str
    y: int
    height: int
    size: str
    kind: Kind | None = None
    name: str = ""
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class MemoryMap:
    """The blocks in the order of their addresses, and the height of the picture."""

    blocks: tuple[Block, ...]
    height: int


@dataclass(frozen=True)
class _Range:
    gpa: int
    size: int
    kind: Kind | None = None
    name: str = ""
    notes: tuple[str, ...] = ()

    @property
    def end(self) -> int:
        return self.gpa + self.size


def memory_map(document: Document) -> MemoryMap:
    """Return the layout for a ``pyvmm.run/1`` document."""
    faults = [fault for fault in document["faults"] if fault["gpa"] is not None]
    used = sorted(_ranges(document), key=lambda each: each.gpa)
    blocks, y = [], 0
    for each in _with_gaps(used, [fault["gpa"] for fault in faults]):
        block = _block(each, y, [f for f in faults if each.gpa <= f["gpa"] < each.end])
        blocks.append(block)
        y += block.height
    return MemoryMap(tuple(blocks), y)


def _ranges(document: Document) -> Iterator[_Range]:
    stage2 = {each["slot"]: each for each in document.get("stage2", ())}
    types: dict[str, list[str]] = defaultdict(list)
    for probe in document["probes"]:
        if probe["result"] == "ok":
            types[probe["bdf"] + probe["region"]].append(probe["attribute"])
    for slot in document["memslots"]:
        kind = _KINDS.get(slot["outcome"], "emulated")
        notes = [f"rejected with {slot['errno']}: {slot['cause']}"] if kind == "rejected" else []
        if slot["slot"] is None:
            notes.append("emulated: each access exits")
        elif report := stage2.pop(slot["slot"], None):
            notes.append(_slot(report))
        else:
            notes.append(f"slot {slot['slot']}")
        if attributes := dict.fromkeys(types[slot["bdf"] + slot["region"]]):
            notes.append(f"the guest accessed it as {', '.join(attributes)}")
        name = f"{slot['bdf']} {slot['region']}"
        yield _Range(slot["gpa"], slot["size"], kind, name, tuple(notes))
    for report in stage2.values():
        yield _Range(report["gpa"], report["size"], "ram", "RAM", (_slot(report),))


def _slot(report: Mapping[str, Any]) -> str:
    """Return the slot and its memory type; the table of results has the whole sentence."""
    clause = re.split(r"[,;] ", report["stage2"])[0]
    if "in stage 2" not in clause and (names := _TYPE.findall(report["stage2"])):
        clause = f"perhaps {' or '.join(dict.fromkeys(names))} in stage 2"
    return f"slot {report['slot']}: {clause} ({report['mark']})"


def _with_gaps(used: Sequence[_Range], gpas: Sequence[int]) -> Iterator[_Range]:
    """Yield `used` and the unused ranges between, and beyond it if a fault is there."""
    end = min((*gpas, used[0].gpa)) if used else min(gpas, default=0)
    for each in used:
        if each.gpa > end:
            yield _Range(end, each.gpa - end)
        yield each
        end = max(end, each.end)
    if gpas and max(gpas) >= end:
        yield _Range(end, max(gpas) + 1 - end)


def _block(each: _Range, y: int, faults: Sequence[Mapping[str, Any]]) -> Block:
    texts = list(each.notes)
    counts: dict[tuple[int, str], int] = defaultdict(int)
    for fault in faults:
        counts[fault["gpa"], _fault(fault)] += 1
    shown = sorted(counts)[:_SHOWN_FAULTS]
    rest = len(counts) - len(shown)
    lines = len(texts) + len(shown) + bool(rest)
    height = _GAP
    if each.kind:
        height = _BLOCK + 3 * max(0, each.size.bit_length() - 12)
    height = max(height, lines * LINE + 14)
    baselines = iter(range(y + LINE, y + height, LINE))
    placed = [Line(next(baselines), text) for text in texts]
    for gpa, text in shown:
        arrow = y + 6 + (height - 12) * (gpa - each.gpa) // max(each.size, 1)
        times = counts[gpa, text]
        repeated = f", {times} times" if times > 1 else ""
        placed.append(Line(next(baselines), f"{gpa:#x}: {text}{repeated}", arrow))
    if rest:
        placed.append(Line(next(baselines), f"and {rest} more: see the table of faults"))
    return Block(
        f"{each.gpa:#x}",
        f"{each.end - 1:#x}",
        y,
        height,
        size(each.size),
        each.kind,
        each.name,
        tuple(placed),
    )


def _fault(fault: Mapping[str, Any]) -> str:
    access = fault["access"] or "access"
    return f"{access} faults, {fault['cause']}; {fault['fix']}: {fault['outcome']}"
