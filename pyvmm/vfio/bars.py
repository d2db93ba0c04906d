# SPDX-License-Identifier: GPL-2.0-only
"""Which parts of a BAR user space may map, and mapping them.

What can't be mapped stays with `Region.read` and `write`: the VMM emulates it, and can say why.
"""

import ctypes
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pyvmm.closing import Closing
from pyvmm.memory import PAGE_SIZE, PROT_READ, PROT_WRITE, Mapping, round_up
from pyvmm.vfio.region_caps import Area
from pyvmm.vfio.regions import Region

_WORDS: dict[int, type["ctypes._SimpleCData[int]"]] = {
    1: ctypes.c_uint8,
    2: ctypes.c_uint16,
    4: ctypes.c_uint32,
    8: ctypes.c_uint64,
}


@dataclass(frozen=True)
class EmulatedArea:
    """A part of a region that is not mapped, and the reason."""

    area: Area
    why: str


@dataclass(frozen=True)
class RegionSplit:
    """A region, divided: `mapped` and `emulated` together are all of it, and do not overlap."""

    mapped: tuple[Area, ...]
    emulated: tuple[EmulatedArea, ...]


def split_region(
    region: Region,
    *,
    msix_table: Area | None = None,
    trap: Iterable[Area] = (),
    page: int = PAGE_SIZE,
) -> RegionSplit:
    """Which parts of `region` can be mapped, in whole pages of the host (`page` bytes).

    `msix_table` is where the region holds the MSI-X table, if it does; it is left out only where
    the kernel does not let user space map it. `trap` are parts that the caller wants emulated
    whatever the kernel allows.
    """
    if reason := _unmappable(region, page):
        whole = (EmulatedArea(Area(0, region.size), reason),) if region.size else ()
        return RegionSplit((), whole)
    holes = [(area, "the VMM traps it") for area in trap]
    if region.sparse is not None:
        outside = _complement(region.sparse, region.size)
        holes += [(area, "the kernel lets user space map only other parts") for area in outside]
    elif msix_table and not region.msix_mappable:
        holes.append((msix_table, "the kernel does not let user space map the MSI-X table's page"))
    if tail := region.size % page:
        holes.append((Area(region.size - tail, tail), "its page reaches beyond the region"))
    emulated = _whole_pages(holes, region.size, page)
    mapped = _complement([hole.area for hole in emulated], region.size)
    return RegionSplit(tuple(mapped), tuple(emulated))


def _unmappable(region: Region, page: int) -> str | None:
    if "mmap" not in region.flags:
        return "the kernel does not let user space map it"
    if region.size < page:
        # The rest of the page may be another device's, and mapping it would hand that over too.
        return f"it is smaller than the host's page of {page:#x} bytes"
    return None


def _whole_pages(holes: Iterable[tuple[Area, str]], size: int, page: int) -> list[EmulatedArea]:
    """Holes in order, grown to whole pages within `size` bytes, none overlapping another."""
    grown: list[EmulatedArea] = []
    for area, why in sorted(holes):
        start = max(area.offset // page * page, grown[-1].area.end if grown else 0)
        end = min(round_up(area.end, page), size)
        if area.size and start < end:
            grown.append(EmulatedArea(Area(start, end - start), why))
    return grown


def _complement(areas: Iterable[Area], size: int) -> Iterator[Area]:
    """What `areas` leave of `size` bytes."""
    at = 0
    for area in sorted(areas):
        if area.offset > at:
            yield Area(at, area.offset - at)
        at = max(at, area.end)
    if at < size:
        yield Area(at, size - at)


@dataclass
class BarMapping(Closing):
    """A region's areas, mapped at their offsets in one reserved range of host virtual memory.

    Byte N of the region is at HVA ``memory.hva + N``, and the holes between areas have no access.
    """

    region: Region
    memory: Mapping
    areas: tuple[Area, ...]
    emulated: tuple[EmulatedArea, ...] = field(default=())

    def load(self, offset: int, size: int) -> int:
        """One load of `size` bytes (1, 2, 4 or 8) at byte `offset`, little-endian.

        Registers want that: what copies bytes (`Mapping.read`) may do so in any pieces, and a
        device may answer a piece that it does not know with an abort, which is a SIGBUS.
        """
        return self._word(offset, size).value

    def store(self, offset: int, size: int, value: int) -> None:
        """One store, as `load` is one load."""
        self._word(offset, size).value = value

    def _word(self, offset: int, size: int) -> "ctypes._SimpleCData[int]":
        if not any(a.offset <= offset and offset + size <= a.end for a in self.areas):
            raise ValueError(f"{offset:#x}+{size} is in no mapped area of {self.region.name}")
        return _WORDS[size].from_address(self.memory.hva + offset)

    def close(self) -> None:
        """Unmap all of it; a memslot over it faults from then on."""
        self.memory.close()


def map_bar(region: Region, split: RegionSplit) -> BarMapping:
    """Map the areas of a divided region, or others inside them (a VMA is made for each).

    An area that the kernel refuses to map is emulated, with its reason. The kernel populates the
    mapping at the first access, in blocks as large as HVA and BAR allow.
    """
    memory = Mapping(round_up(region.size), align=largest_block(region.size))
    prot = (PROT_READ if "read" in region.flags else 0) | (
        PROT_WRITE if "write" in region.flags else 0
    )
    mapped, emulated = [], list(split.emulated)
    for area in split.mapped:
        start = region.offset + area.offset
        try:
            memory.place(region.device.fileno(), start, at=area.offset, size=area.size, prot=prot)
        except OSError as error:
            why = f"the kernel refused to map it: {os.strerror(error.errno or 0)}"
            emulated.append(EmulatedArea(area, why))
        else:
            mapped.append(area)
    return BarMapping(region, memory, tuple(mapped), tuple(emulated))


def largest_block(size: int, page: int = PAGE_SIZE) -> int:
    """The largest page-table block that fits into `size` bytes: 2 MiB and 1 GiB with 4 KiB pages.

    A table is one page of 8-byte entries, so each of the two levels above the last spans that
    many times more.
    """
    fits = page
    for level in (1, 2):
        if (larger := page * (page // 8) ** level) <= size:
            fits = larger
    return fits
