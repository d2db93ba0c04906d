# SPDX-License-Identifier: GPL-2.0-only
"""A running VMM: its KVM and vfio descriptors, its memslots if known, the VMAs behind them."""

import contextlib
import errno
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from pyvmm.errors import LackingError, UsageError
from pyvmm.explain.conditions import SlotPart, part_facts, suspect_parts
from pyvmm.memory.vma import Vma, vmas
from pyvmm.why import Finding, Host, Slot, judge, kvm_run
from pyvmm.why.facts import AccessKind
from pyvmm.why.stage2_type import stage2_type

_PROC = Path("/proc")
_DEBUGFS = Path("/sys/kernel/debug/kvm")
_DESCRIPTORS = re.compile(r"anon_inode:\[?(kvm-vm|kvm-vcpu:\d+|vfio-device)\]?|/dev/vfio/\S+")
# A range, its size, the level of its descriptors, their attributes; no attributes if unmapped.
_MAPPED = re.compile(r"0x([0-9a-f]+)-0x([0-9a-f]+) +\w+ \d[ ]+\S")
_ALL_ADDRESSES = 1 << 64
_SMALLEST_GUEST_MEMORY = 1 << 20  # bytes; smaller memory is the VMM's own heap and stacks


@dataclass(frozen=True)
class Stage2:
    """The ranges that debugfs shows as mapped in a VM's stage 2, each from IPA to IPA.

    `vm` is the name of the debugfs directory, PID-FD.
    """

    vm: str
    mapped: tuple[tuple[int, int], ...]


class JudgedPart(NamedTuple):
    """A part of a memslot, and what a guest gets there."""

    part: SlotPart
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Process:
    """A running VMM.

    Attributes:
        descriptors: the number of descriptors of each kind.
        slots_known: the memslots were given.
        parts: what backs the memslots; without them, each VMA that could be guest memory.
        stage2: for each VM that debugfs shows.
    """

    pid: int
    command: str
    descriptors: dict[str, int]
    slots_known: bool
    parts: tuple[JudgedPart, ...]
    stage2: tuple[Stage2, ...]


def inspect(pid: int, host: Host, slots: Sequence[Slot] | None) -> Process:
    """Inspect process `pid`; `slots` are its memslots, or None if they are not known.

    Raises `UsageError` if there is no such process, `LackingError` without permission.
    """
    try:
        command = (_PROC / str(pid) / "comm").read_text().strip()
        judged = (JudgedPart(p, tuple(part_findings(p, host, pid))) for p in _parts(pid, slots))
        return Process(
            pid,
            command,
            _descriptors(pid),
            slots is not None,
            tuple(judged),
            tuple(_stage2(pid)),
        )
    except (FileNotFoundError, ProcessLookupError):
        raise UsageError(f"there is no process {pid}") from None
    except PermissionError:
        raise LackingError(
            f"permission denied for process {pid}: run as its user, or as root"
        ) from None


def slot_parts(slot: Slot, pid: int) -> Iterator[SlotPart]:
    """Split a memslot's HVA range at the boundaries of its VMAs. Raises `OSError`."""
    at, end = slot.hva, slot.hva + slot.size
    for vma in [*vmas(slot.hva, slot.size, pid), None]:
        start = min(vma.start, end) if vma else end
        if at < start:
            yield SlotPart(slot, at, start - at, None)
        if vma:
            at = max(at, start)
            yield SlotPart(slot, at, min(vma.end, end) - at, vma)
            at = min(vma.end, end)


def part_findings(part: SlotPart, host: Host, pid: int) -> Iterator[Finding]:
    """Yield the conditions that fail a guest access to a part, and its stage-2 memory type."""
    access: AccessKind = "read" if part.slot and part.slot.readonly else "write"
    found: set[str] = set()
    for place in (part, *suspect_parts(part, pid)):
        facts = replace(part_facts(place, host, pid, errno.EFAULT), known_access=access)
        for finding in judge(kvm_run.CONDITIONS, facts):
            if finding.mark != "impossible" and finding.needs is None and finding.name not in found:
                found.add(finding.name)
                yield finding
    if part.vma and "r" in part.vma.perms:
        yield stage2_type(part.vma, host)


def _descriptors(pid: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    for fd in (_PROC / str(pid) / "fd").iterdir():
        try:
            target = str(fd.readlink())
        except FileNotFoundError:  # closed since iterdir()
            continue
        if match := _DESCRIPTORS.fullmatch(target):
            kind = (match[1] or target).partition(":")[0]
            counts[kind] = counts.get(kind, 0) + 1
    return dict(sorted(counts.items()))


def _parts(pid: int, slots: Sequence[Slot] | None) -> list[SlotPart]:
    if slots is not None:
        return [part for slot in slots for part in slot_parts(slot, pid)]
    return [
        SlotPart(None, vma.start, vma.end - vma.start, vma)
        for vma in vmas(0, _ALL_ADDRESSES, pid)
        if _may_be_guest_memory(vma)
    ]


def _may_be_guest_memory(vma: Vma) -> bool:
    if vma.pfnmap:
        return not vma.path.startswith("[v")  # [vvar], [vvar_vclock]
    large = vma.end - vma.start >= _SMALLEST_GUEST_MEMORY
    return large and "r" in vma.perms and "x" not in vma.perms and not vma.path.startswith("[")


def _stage2(pid: int) -> Iterator[Stage2]:
    """Read stage 2 from debugfs: arm64 with ``CONFIG_PTDUMP_STAGE2_DEBUGFS``, as root."""
    for tables in sorted(_DEBUGFS.glob(f"{pid}-*/stage2_page_tables")):
        with contextlib.suppress(OSError):  # the VM was closed
            yield Stage2(tables.parent.name, tuple(_ranges(tables.read_text())))


def _ranges(dump: str) -> Iterator[tuple[int, int]]:
    """Yield the mapped ranges of a dump, adjacent ones merged."""
    begin = end = 0
    for match in _MAPPED.finditer(dump):
        start, stop = int(match[1], 16), int(match[2], 16)
        if start != end:
            if end:
                yield begin, end
            begin = start
        end = stop
    if end:
        yield begin, end
