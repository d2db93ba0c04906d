# SPDX-License-Identifier: GPL-2.0-only
"""VMAs of a process with their flags, from ``/proc/PID/smaps``."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyvmm.memory.mapping import PAGE_SIZE

_HEADER = re.compile(
    r"(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<perms>\S{4}) (?P<offset>[0-9a-f]+) "
    r"(?P<device>\S+) (?P<inode>\d+) *(?P<path>.*)"
)
_VFIO = ("/dev/vfio/devices/", "anon_inode:[vfio-device]")
_SYSFS_BAR = re.compile(r"/sys/devices/.*/resource\d(_wc)?$")
_ANONYMOUS = ("[heap]", "[stack]", "[anon:", "[anon_shmem:")
_SHMEM = ("/memfd:", "/dev/zero (deleted)", "/SYSV")


@dataclass(frozen=True)
class Vma:
    """A VMA: HVA `start` to `end` (exclusive), at byte `offset` of the file `path`.

    Attributes:
        perms: the permissions, such as ``rw-p``.
        path: the path of the file, a name in brackets, or "" for anonymous memory.
        flags: the two-letter names of Documentation/filesystems/proc.rst: ``pf`` is VM_PFNMAP,
            ``io`` VM_IO, ``sh`` VM_SHARED, ``mt`` VM_MTE.
        device: the file system's device number in hexadecimal, major:minor; major 0 if it has no
            block device.
        page_size: the size of its pages in bytes, larger than the host's for hugetlb.
    """

    start: int
    end: int
    perms: str
    offset: int
    path: str
    flags: frozenset[str]
    device: str = ""
    page_size: int = PAGE_SIZE

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
    def hugetlb(self) -> bool:
        """Return True for VM_HUGETLB."""
        return "ht" in self.flags

    @property
    def is_vfio(self) -> bool:
        """Return True if the mapping is a vfio device's memory."""
        return self.path.startswith(_VFIO)

    @property
    def is_bar(self) -> bool:
        """Return True if the mapping is a PCI device's memory, through vfio or sysfs."""
        return self.is_vfio or bool(_SYSFS_BAR.match(self.path))

    @property
    def mixedmap(self) -> bool:
        """Return True for VM_MIXEDMAP: some of the pages may have no struct page."""
        return "mm" in self.flags

    @property
    def mte_allowed(self) -> bool | None:
        """Return True if arm64's MTE can tag the memory (VM_MTE_ALLOWED), None if smaps cannot say.

        arch_calc_vm_flag_bits in arch/arm64/include/asm/mman.h allows MAP_ANONYMOUS, shmem (tmpfs,
        memfd, shared anonymous memory), and hugetlb since Linux kernel commit 25c17c4b55de
        "hugetlb: arm64: add mte support" (in v6.13). smaps does not print the flag.
        """
        if "mt" in self.flags:
            return True
        if "ht" in self.flags:
            return None
        if self.pfnmap or self.mixedmap or (not self.path.startswith(("/", "[")) and self.path):
            return False
        if not self.path or self.path.startswith((*_ANONYMOUS, *_SHMEM)):
            return True
        # A file on tmpfs looks like one on any other file system without a block device.
        return None if self.path.startswith("/") and self.device.startswith("00:") else False


def vmas(hva: int, size: int, pid: int | str = "self") -> list[Vma]:
    """Return the VMAs of process `pid` that overlap `size` bytes at `hva`, in order.

    Only smaps has the VmFlags. Neither smaps nor maps has the cacheability.
    Raises `OSError` if the process does not exist or may not be inspected.
    """
    # A path in smaps has any bytes but NUL and newline.
    with Path(f"/proc/{pid}/smaps").open(errors="replace") as smaps:
        return [vma for vma in _parse(smaps) if vma.start < hva + size and hva < vma.end]


def _parse(lines: Iterator[str]) -> Iterator[Vma]:
    header: re.Match[str] | None = None
    page_size = PAGE_SIZE
    for line in lines:
        if match := _HEADER.match(line):
            header = match
        elif line.startswith("KernelPageSize:"):
            page_size = int(line.split()[1]) << 10
        elif line.startswith("VmFlags:") and header:
            yield Vma(
                start=int(header["start"], 16),
                end=int(header["end"], 16),
                perms=header["perms"],
                offset=int(header["offset"], 16),
                path=header["path"].rstrip("\n"),
                flags=frozenset(line.split()[1:]),
                device=header["device"],
                page_size=page_size,
            )
