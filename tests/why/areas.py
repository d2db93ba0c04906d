# SPDX-License-Identifier: GPL-2.0-only
"""Facts of an access, with a VMA that is given instead of looked up.

PFNMAP VMAs exist only where a PCI device is.
"""

from dataclasses import dataclass
from functools import cached_property

from pyvmm.memory import PAGE_SIZE
from pyvmm.memory.backing_file import BackingFile
from pyvmm.memory.hugetlb_pool import HugetlbPool
from pyvmm.memory.memory_cgroup import MemoryLimit
from pyvmm.memory.pagemap import PageState
from pyvmm.memory.procmap import MapsEntry
from pyvmm.memory.vma import Vma
from pyvmm.why import AccessFacts, Slot

HVA = 0x1000_0000_0000  # nothing is mapped there in this process
GPA = 0x4000_0000
SLOT = Slot(3, GPA, 4 * PAGE_SIZE, HVA)


@dataclass(frozen=True, kw_only=True)
class PresetFacts(AccessFacts):
    """The facts of an access through `SLOT`.

    Attributes:
        preset: the VMA behind the slot, or None for a hole.
        rejected: KVM rejects a memslot over it as cacheable PFNMAP.
        entry: the page's entry in pagemap, or None to look it up.
        backing: the file behind it.
        pool: its pool of huge pages.
        limit: the control group's limit that it has reached.
    """

    exit: str | None = "run_failure"
    known_gpa: int | None = GPA
    slot_known: bool = True
    known_slot: Slot | None = SLOT
    preset: Vma | None
    rejected: bool | None = None
    entry: int | None = None
    backing: BackingFile | None = None
    pool: HugetlbPool | None = None
    limit: MemoryLimit | None = None

    @cached_property
    def vma(self) -> Vma | None:
        return self.preset

    @cached_property
    def next_area(self) -> MapsEntry | None:
        if (vma := self.preset) is None:
            return None
        return MapsEntry(vma.start, vma.end, vma.perms, vma.offset, vma.path)

    @cached_property
    def page_state(self) -> PageState:
        return super().page_state if self.entry is None else PageState(self.entry)

    @cached_property
    def file(self) -> BackingFile | None:
        return self.backing

    @cached_property
    def hugetlb_pool(self) -> HugetlbPool | None:
        return self.pool

    @cached_property
    def memory_limit(self) -> MemoryLimit | None:
        return self.limit

    @property
    def rejected_as_cacheable(self) -> bool | None:
        return self.rejected


def area(*flags: str, path: str = "/dev/mem", perms: str = "rw-s") -> Vma:
    """Return a VMA over the whole of `SLOT` with these VmFlags."""
    return Vma(SLOT.hva, SLOT.hva + SLOT.size, perms, 0, path, frozenset(flags))
