# SPDX-License-Identifier: GPL-2.0-only
"""VMAs of a process with their flags, from ``/proc/PID/smaps``."""

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
    """A VMA: HVA `start` to `end` (exclusive), at byte `offset` of the file `path`.

    Attributes:
        perms: the permissions, such as ``rw-p``.
        path: the path of the file, a name in brackets, or "" for anonymous memory.
        flags: the two-letter names of Documentation/filesystems/proc.rst: ``pf`` is VM_PFNMAP,
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
        """Return True for VM_PFNMAP: KVM must not use the struct pages, if there are any."""
        return "pf" in self.flags

    @property
    def any_uncached(self) -> bool:
        """Return True if VM_ALLOW_ANY_UNCACHED is set, as vfio-pci does on its BARs.

        smaps prints "??" for every flag that it has no name for, and this is one.
        """
        return "??" in self.flags

    @property
    def mte_allowed(self) -> bool:
        """Return True if the memory is anonymous or tmpfs, which arm64's MTE can tag.

        The kernel's flag for this, VM_MTE_ALLOWED, is not in smaps.
        """
        return not self.path.startswith("/") or self.path.startswith(("/memfd:", "/dev/zero"))


def vmas(hva: int, size: int, pid: int | str = "self") -> list[Vma]:
    """Return the VMAs of process `pid` that overlap `size` bytes at `hva`, in order.

    Only smaps has the VmFlags. Neither smaps nor maps has the cacheability.
    Raises `OSError` if the process does not exist or may not be inspected.
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
