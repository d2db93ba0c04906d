# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel says of a virtual memory area: its range, its file, and its flags."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HEADER = re.compile(
    r"(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<perms>\S{4}) (?P<offset>[0-9a-f]+) "
    r"(?P<device>\S+) (?P<inode>\d+) *(?P<path>.*)"
)


@dataclass(frozen=True)
class Vma:
    """One area of ``/proc/PID/smaps``; `start`, `end` (HVA) and `offset` in bytes.

    `flags` are the two-letter names of Documentation/filesystems/proc.rst: ``pf`` is VM_PFNMAP,
    ``io`` VM_IO, ``sh`` VM_SHARED, ``mt`` VM_MTE.
    """

    start: int
    end: int
    perms: str
    offset: int
    path: str
    flags: frozenset[str]

    @property
    def pfnmap(self) -> bool:
        """Mapped by page frame number, with no struct page that KVM may count on."""
        return "pf" in self.flags

    @property
    def mte_allowed(self) -> bool:
        """Is it memory that arm64's MTE can tag: anonymous, or a tmpfs's?

        The kernel's own flag for it, VM_MTE_ALLOWED, has no name in smaps.
        """
        return not self.path.startswith("/") or self.path.startswith(("/memfd:", "/dev/zero"))


def vmas(hva: int, size: int, pid: int | str = "self") -> list[Vma]:
    """The areas that touch `size` bytes from `hva` in process `pid`, in order.

    smaps and not maps: only smaps has the flags, and cacheability is in neither.
    Raises `OSError` where the process is gone or not ours to look at.
    """
    with Path(f"/proc/{pid}/smaps").open() as smaps:
        return [vma for vma in _parse(smaps) if vma.start < hva + size and hva < vma.end]


def _parse(lines: Iterator[str]) -> Iterator[Vma]:
    header: re.Match[str] | None = None
    for line in lines:
        if match := _HEADER.match(line):
            header = match
        elif line.startswith("VmFlags:") and header:
            yield Vma(
                start=int(header["start"], 16),
                end=int(header["end"], 16),
                perms=header["perms"],
                offset=int(header["offset"], 16),
                path=header["path"].rstrip("\n"),
                flags=frozenset(line.split()[1:]),
            )
