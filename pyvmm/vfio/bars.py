# SPDX-License-Identifier: GPL-2.0-only
"""BARs in host virtual memory: the parts that user space can mmap, and their mappings.

The VMM emulates accesses to the rest with `Region.read` and `Region.write`.
"""

import ctypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from pyvmm.closeable import Closeable
from pyvmm.memory import PAGE_SIZE, PROT_READ, PROT_WRITE, Mapping, round_up
from pyvmm.vfio.region_caps import Area
from pyvmm.vfio.regions import Region

_WORDS: dict[int, type["ctypes._SimpleCData[int]"]] = {
    1: ctypes.c_uint8,
    2: ctypes.c_uint16,
    4: ctypes.c_uint32,
    8: ctypes.c_uint64,
}


class Unmappable(Enum):
    """Reasons why a part of a region is not mmapped."""

    NO_MMAP_FLAG = auto()  # the region lacks VFIO_REGION_INFO_FLAG_MMAP
    BELOW_PAGE_SIZE = auto()  # the region is smaller than a host page
    TRAPPED = auto()  # the caller wants to emulate it
    NOT_SPARSE_AREA = auto()  # not an area of VFIO_REGION_INFO_CAP_SPARSE_MMAP
    MSIX_TABLE = auto()  # no VFIO_REGION_INFO_CAP_MSIX_MAPPABLE
    PARTIAL_PAGE = auto()  # the region ends within the page
    MMAP_FAILED = auto()  # mmap(2) failed


@dataclass(frozen=True)
class EmulatedArea:
    """A part of a region that is not mmapped. `errno` belongs to `MMAP_FAILED`."""

    area: Area
    reason: Unmappable
    errno: int = 0


@dataclass(frozen=True)
class RegionSplit:
    """A region, split: `mapped` and `emulated` cover all of it and do not overlap."""

    mapped: tuple[Area, ...]
    emulated: tuple[EmulatedArea, ...]


def split_region(
    region: Region,
    *,
    msix_table: Area | None = None,
    trap: Iterable[Area] = (),
    page: int = PAGE_SIZE,
) -> RegionSplit:
    """Split `region` into areas to mmap, in whole host pages of `page` bytes, and the rest.

    `msix_table` is the MSI-X table's area in this region, if any. It is emulated only if the
    kernel does not let user space mmap it. `trap` lists areas to emulate in any case.
    """
    if reason := _unmappable(region, page):
        whole = (EmulatedArea(Area(0, region.size), reason),) if region.size else ()
        return RegionSplit((), whole)
    holes = []
    if tail := region.size % page:
        holes.append((Area(region.size - tail, tail), Unmappable.PARTIAL_PAGE))
    holes += [(area, Unmappable.TRAPPED) for area in trap]
    if region.sparse is not None:
        outside = _complement(region.sparse, region.size)
        holes += [(area, Unmappable.NOT_SPARSE_AREA) for area in outside]
    elif msix_table and not region.msix_mappable:
        holes.append((msix_table, Unmappable.MSIX_TABLE))
    emulated = _whole_pages(holes, region.size, page)
    mapped = _complement([hole.area for hole in emulated], region.size)
    return RegionSplit(tuple(mapped), tuple(emulated))


def _unmappable(region: Region, page: int) -> Unmappable | None:
    if "mmap" not in region.flags:
        return Unmappable.NO_MMAP_FLAG
    if region.size < page:
        # vfio allows the mmap of a page-aligned one and reserves the rest of the page for it
        # (vfio_pci_probe_mmaps), but a memslot would show the guest that rest, too.
        return Unmappable.BELOW_PAGE_SIZE
    return None


def _whole_pages(
    holes: Iterable[tuple[Area, Unmappable]], size: int, page: int
) -> list[EmulatedArea]:
    """Return `holes` in order, grown to whole pages within `size` bytes, without overlaps."""
    grown: list[EmulatedArea] = []
    for area, reason in sorted(holes, key=lambda hole: hole[0]):
        start = max(area.offset // page * page, grown[-1].area.end if grown else 0)
        end = min(round_up(area.end, page), size)
        if area.size and start < end:
            grown.append(EmulatedArea(Area(start, end - start), reason))
    return grown


def _complement(areas: Iterable[Area], size: int) -> Iterator[Area]:
    """Yield the parts of `size` bytes that `areas` do not cover."""
    at = 0
    for area in sorted(areas):
        if area.offset > at:
            yield Area(at, area.offset - at)
        at = max(at, area.end)
    if at < size:
        yield Area(at, size - at)


@dataclass
class BarMapping(Closeable):
    """The mmapped areas of a region, in one reserved range of host virtual memory.

    Byte N of the region is at HVA ``memory.hva + N``. The holes between areas are ``PROT_NONE``.
    """

    region: Region
    memory: Mapping
    areas: tuple[Area, ...]
    emulated: tuple[EmulatedArea, ...]

    def place(self, area: Area) -> None:
        """Map `area` of the region, over any current mapping. Raises `OSError`."""
        prot = PROT_READ if "read" in self.region.flags else 0
        prot |= PROT_WRITE if "write" in self.region.flags else 0
        fd, start = self.region.device.fileno(), self.region.offset + area.offset
        self.memory.place(fd, start, at=area.offset, size=area.size, prot=prot)

    def load(self, offset: int, size: int) -> int:
        """Load `size` bytes (1, 2, 4 or 8) at byte `offset` with one access, little-endian.

        Use this for registers. `Mapping.read` copies bytes in accesses of any size, and a device
        may abort an access of a size that it does not implement, which is a SIGBUS.
        """
        return self._word(offset, size).value

    def store(self, offset: int, size: int, value: int) -> None:
        """Store `value` in `size` bytes (1, 2, 4 or 8) at byte `offset` with one access."""
        self._word(offset, size).value = value

    def _word(self, offset: int, size: int) -> "ctypes._SimpleCData[int]":
        if not any(a.offset <= offset and offset + size <= a.end for a in self.areas):
            raise ValueError(f"{offset:#x}+{size} is not in a mapped area of {self.region.name}")
        return _WORDS[size].from_address(self.memory.hva + offset)

    def close(self) -> None:
        """Unmap the region. Guest accesses through a memslot over it fault afterwards."""
        self.memory.close()


def map_bar(region: Region, split: RegionSplit) -> BarMapping:
    """Map the `mapped` areas of a split region, each as one VMA.

    An area for which mmap(2) fails becomes emulated. The kernel populates the mapping at the
    first access, in blocks as large as the alignment of HVA and BAR allows.
    """
    memory = Mapping(round_up(region.size), align=largest_block(region.size))
    bar = BarMapping(region, memory, (), split.emulated)
    for area in split.mapped:
        try:
            bar.place(area)
        except OSError as error:
            failed = EmulatedArea(area, Unmappable.MMAP_FAILED, error.errno or 0)
            bar.emulated += (failed,)
        else:
            bar.areas += (area,)
    return bar


def largest_block(size: int, page: int = PAGE_SIZE) -> int:
    """Return the size of the largest page-table block that fits into `size` bytes.

    That is 2 MiB or 1 GiB with 4 KiB pages, or else a page. A table is one page of 8-byte
    entries, so each level above the last maps ``page / 8`` times more per entry.
    """
    fits = page
    for level in (1, 2):
        if (larger := page * (page // 8) ** level) <= size:
            fits = larger
    return fits
