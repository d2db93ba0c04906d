# SPDX-License-Identifier: GPL-2.0-only
"""The pools of huge pages, from ``/sys/kernel/mm/hugepages``."""

from dataclasses import dataclass
from pathlib import Path

_POOLS = Path("/sys/kernel/mm/hugepages")


@dataclass(frozen=True)
class HugetlbPool:
    """The pool of huge pages of one size.

    Attributes:
        free: pages that are not allocated.
        reserved: those of `free` that mappings without MAP_NORESERVE have reserved.
        surplus: pages allocated beyond the pool's size.
        overcommit: the limit of `surplus`.
    """

    free: int
    reserved: int
    surplus: int
    overcommit: int

    @property
    def empty(self) -> bool:
        """Return True if a mapping without a reservation cannot get a page."""
        return self.free <= self.reserved and self.surplus >= self.overcommit


def hugetlb_pool(page_size: int) -> HugetlbPool:
    """Return the pool of pages of `page_size` bytes. Raises `OSError`."""
    pool = _POOLS / f"hugepages-{page_size >> 10}kB"
    names = ("free_hugepages", "resv_hugepages", "surplus_hugepages", "nr_overcommit_hugepages")
    return HugetlbPool(*(int((pool / name).read_text()) for name in names))


def default_size() -> int:
    """Return the size of the default huge pages in bytes, or 0 on a kernel without hugetlb."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Hugepagesize:"):
            return int(line.split()[1]) << 10
    return 0
