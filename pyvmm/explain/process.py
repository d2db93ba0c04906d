# SPDX-License-Identifier: GPL-2.0-only
"""A running VMM: its KVM and vfio descriptors, its memslots as far as told, what backs them."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyvmm.errors import LackingError, UsageError
from pyvmm.explain.backing import Piece, judge, pieces
from pyvmm.explain.host import Host
from pyvmm.memory.vma import Vma, vmas

_PROC = Path("/proc")
_DEBUGFS = Path("/sys/kernel/debug/kvm")
_DESCRIPTORS = re.compile(r"anon_inode:\[?(kvm-vm|kvm-vcpu:\d+|vfio-device)\]?|/dev/vfio/\S+")
# A range, its size, the level of its descriptors, and what they say; nothing where unmapped.
_MAPPED = re.compile(r"0x([0-9a-f]+)-0x([0-9a-f]+) +\w+ \d[ ]+\S")
_EVERYTHING = 1 << 64
# Smaller anonymous memory is the VMM's own heap and stacks, or none can tell.
_WORTH_TELLING = 1 << 20  # bytes


@dataclass(frozen=True)
class Stage2:
    """What the kernel's debugfs says is mapped in a VM's stage 2 now, as (IPA, end).

    `vm` is the directory's name, PID-FD.
    """

    vm: str
    mapped: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Process:
    """What was found out of a VMM.

    Attributes:
        descriptors: how many of each kind it holds.
        pieces: what backs its memslots; where no one told those, its memory that could be a
            guest's.
        stage2: of each of its VMs that debugfs tells of.
    """

    pid: int
    command: str
    descriptors: dict[str, int]
    slots_known: bool
    pieces: tuple[Piece, ...]
    stage2: tuple[Stage2, ...]


def look(pid: int, host: Host) -> Process:
    """Look at process `pid`; `host` has its memslots, where they are known.

    Raises `UsageError` where there is no such process, `LackingError` where it is not ours to
    look at.
    """
    try:
        command = (_PROC / str(pid) / "comm").read_text().strip()
        return Process(
            pid,
            command,
            _descriptors(pid),
            host.memslots.known,
            tuple(_pieces(pid, host)),
            tuple(_stage2(pid)),
        )
    except (FileNotFoundError, ProcessLookupError):
        raise UsageError(f"there is no process {pid}") from None
    except PermissionError:
        raise LackingError(f"process {pid} is not ours to look at: be its user, or root") from None


def _descriptors(pid: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    for fd in (_PROC / str(pid) / "fd").iterdir():
        try:
            target = str(fd.readlink())
        except FileNotFoundError:  # closed meanwhile
            continue
        if match := _DESCRIPTORS.fullmatch(target):
            kind = (match[1] or target).partition(":")[0]
            counts[kind] = counts.get(kind, 0) + 1
    return dict(sorted(counts.items()))


def _pieces(pid: int, host: Host) -> list[Piece]:
    if host.memslots.known:
        return [piece for slot in host.memslots for piece in pieces(slot, pid, host)]
    return [
        Piece(None, None, vma.start, vma.end - vma.start, vma, tuple(judge(vma, host)))
        for vma in vmas(0, _EVERYTHING, pid)
        if _could_be_a_guests(vma)
    ]


def _could_be_a_guests(vma: Vma) -> bool:
    if vma.pfnmap:
        return not vma.path.startswith("[v")  # [vvar], [vvar_vclock]
    large = vma.end - vma.start >= _WORTH_TELLING
    return large and "r" in vma.perms and "x" not in vma.perms and not vma.path.startswith("[")


def _stage2(pid: int) -> Iterator[Stage2]:
    """Debugfs, ``CONFIG_PTDUMP_STAGE2_DEBUGFS``: only arm64 has it, and only root reads it."""
    for tables in sorted(_DEBUGFS.glob(f"{pid}-*/stage2_page_tables")):
        with contextlib.suppress(OSError):  # the VM has ended
            yield Stage2(tables.parent.name, tuple(_ranges(tables.read_text())))


def _ranges(dump: str) -> Iterator[tuple[int, int]]:
    """The ranges of a dump, those that touch as one."""
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
