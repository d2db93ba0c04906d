# SPDX-License-Identifier: GPL-2.0-only
"""Splitting regions into mapped and emulated areas, and mapping them.

The regions are descriptions, or temporary files in place of a device's file.
test_vfio_device.py maps the BARs of real devices.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pyvmm.ioctl import Fd
from pyvmm.memory import PAGE_SIZE
from pyvmm.vfio.bars import (
    EmulatedArea,
    RegionSplit,
    Unmappable,
    largest_block,
    map_bar,
    split_region,
)
from pyvmm.vfio.cap_chains import MalformedChainError
from pyvmm.vfio.region_caps import Area, Capability, MsixMappable, SparseMmap
from pyvmm.vfio.regions import Region, RegionError

PAGE = 0x1000
ALL = ("read", "write", "mmap")
CLOSED = Fd(-1)


def region(size: int, *capabilities: Capability, flags: tuple[str, ...] = ALL) -> Region:
    return Region(CLOSED, 0, size=size, offset=0, flags=flags, capabilities=capabilities)


def sparse(*areas: tuple[int, int]) -> SparseMmap:
    return SparseMmap(tuple(Area(offset, size) for offset, size in areas))


TABLE = Area(0x2000, 0x410)


@pytest.mark.parametrize(
    ("bar", "table", "trap", "mapped", "emulated"),
    [
        pytest.param(region(0x4000), None, [], [(0, 0x4000)], [], id="whole"),
        pytest.param(region(0x100), None, [], [], [(0, 0x100)], id="smaller than a page"),
        pytest.param(region(0), None, [], [], [], id="empty"),
        pytest.param(
            region(0x4000, flags=("read", "write")), None, [], [], [(0, 0x4000)], id="no mmap"
        ),
        pytest.param(
            region(0x4000, sparse((0x1000, 0x1000), (0x3000, 0x1000))),
            *(None, []),
            *([(0x1000, 0x1000), (0x3000, 0x1000)], [(0, 0x1000), (0x2000, 0x1000)]),
            id="sparse",
        ),
        pytest.param(
            region(0x4000, sparse((0x800, 0x2000))),
            *(None, []),
            *([(0x1000, 0x1000)], [(0, 0x1000), (0x2000, 0x2000)]),
            id="sparse, parts of pages",
        ),
        pytest.param(region(0x4000, sparse()), None, [], [], [(0, 0x4000)], id="sparse, no area"),
        pytest.param(
            region(0x4000),
            *(TABLE, []),
            *([(0, 0x2000), (0x3000, 0x1000)], [(0x2000, 0x1000)]),
            id="MSI-X table",
        ),
        pytest.param(
            region(0x4000, MsixMappable()), TABLE, [], [(0, 0x4000)], [], id="MSI-X mappable"
        ),
        pytest.param(
            region(0x4000, sparse((0, 0x4000))), TABLE, [], [(0, 0x4000)], [], id="sparse decides"
        ),
        pytest.param(
            region(0x4000, MsixMappable()),
            *(TABLE, [TABLE]),
            *([(0, 0x2000), (0x3000, 0x1000)], [(0x2000, 0x1000)]),
            id="trapped",
        ),
        pytest.param(region(0x1800), None, [], [(0, 0x1000)], [(0x1000, 0x800)], id="odd tail"),
    ],
)
def test_split(
    bar: Region,
    table: Area | None,
    trap: list[Area],
    mapped: list[tuple[int, int]],
    emulated: list[tuple[int, int]],
) -> None:
    split = split_region(bar, msix_table=table, trap=trap, page=PAGE)
    assert [(a.offset, a.size) for a in split.mapped] == mapped
    assert [(e.area.offset, e.area.size) for e in split.emulated] == emulated


AREAS = st.lists(st.builds(Area, st.integers(0, 0x8000), st.integers(1, 0x3000)), max_size=5)


@given(
    size=st.integers(1, 0x8000),
    areas=st.none() | AREAS,
    table=st.none() | st.builds(Area, st.integers(0, 0x7FFF), st.integers(1, 0x800)),
    trap=AREAS,
    page=st.sampled_from([0x1000, 0x4000]),
)
def test_split_covers_the_region_once_and_maps_whole_allowed_pages(
    size: int, areas: list[Area] | None, table: Area | None, trap: list[Area], page: int
) -> None:
    try:
        bar = region(size, *([SparseMmap(tuple(areas))] if areas is not None else []))
    except MalformedChainError:
        assume(False)
    split = split_region(bar, msix_table=table, trap=trap, page=page)
    parts = sorted([*split.mapped, *(e.area for e in split.emulated)])
    assert [part.offset for part in parts] == [0, *(part.end for part in parts[:-1])]
    assert parts[-1].end == size
    for area in split.mapped:
        assert not (area.offset | area.size) % page
        assert not any(area.offset < t.end and t.offset < area.end for t in trap)
        if areas is not None:
            touching = [a for a in areas if a.offset < area.end and area.offset < a.end]
            assert (
                sum(min(a.end, area.end) - max(a.offset, area.offset) for a in touching)
                == area.size
            )
        elif table:
            assert not (area.offset < table.end and table.offset < area.end)


@pytest.mark.parametrize(
    "areas",
    [
        pytest.param([(0, 0x5000)], id="beyond the end"),
        pytest.param([(2**64 - 0x1000, 0x1000)], id="far beyond"),
        pytest.param([(0, 0x2000), (0x1000, 0x1000)], id="overlapping"),
    ],
)
def test_invalid_sparse_areas_are_rejected(areas: list[tuple[int, int]]) -> None:
    with pytest.raises(MalformedChainError, match="BAR0"):
        region(0x4000, sparse(*areas))


@pytest.mark.parametrize(
    ("size", "page", "expected"),
    [
        (0x1000, 0x1000, 0x1000),
        (0x1FFFFF, 0x1000, 0x1000),
        (0x200000, 0x1000, 0x200000),
        (0x20000000, 0x1000, 0x200000),
        (0x40000000, 0x1000, 0x40000000),
        (1 << 40, 0x1000, 0x40000000),
        (0x20000000, 0x10000, 0x20000000),
        (0x2000000, 0x4000, 0x2000000),
    ],
)
def test_largest_block(size: int, page: int, expected: int) -> None:
    assert largest_block(size, page) == expected


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Region]:
    """Yield a region of four pages that starts at the second page of a file of five."""
    path = tmp_path / "bar"
    path.write_bytes(b"".join(bytes([page]) * PAGE_SIZE for page in range(5)))
    with Fd(os.open(path, os.O_RDWR)) as fd:
        yield Region(fd, 0, size=4 * PAGE_SIZE, offset=PAGE_SIZE, flags=ALL)


def test_areas_are_mapped_at_their_offsets(file: Region) -> None:
    parts = split_region(file, trap=[Area(PAGE_SIZE, 1)], page=PAGE_SIZE)
    with map_bar(file, parts) as bar:
        assert bar.memory.read(0, 1) + bar.memory.read(2 * PAGE_SIZE, 1) == b"\x01\x03"
        assert bar.areas == parts.mapped


def test_area_that_mmap_rejects_is_emulated(tmp_path: Path) -> None:
    (tmp_path / "bar").write_bytes(bytes(PAGE_SIZE))
    with Fd(os.open(tmp_path / "bar", os.O_WRONLY)) as unreadable:
        bar = Region(unreadable, 0, size=PAGE_SIZE, offset=0, flags=ALL)
        with map_bar(bar, RegionSplit((Area(0, PAGE_SIZE),), ())) as mapping:
            assert mapping.areas == ()
            [rejected] = mapping.emulated
            assert rejected == EmulatedArea(
                Area(0, PAGE_SIZE), Unmappable.MMAP_FAILED, errno.EACCES
            )


def test_region_read_and_write_start_at_its_offset(file: Region) -> None:
    assert file.read(0, 4) == b"\x01" * 4
    file.write(PAGE_SIZE, b"\xaa\xbb")
    assert file.read(PAGE_SIZE, 4) == b"\xaa\xbb\x02\x02"


@pytest.mark.parametrize(
    ("offset", "why"), [(5 * PAGE_SIZE, "beyond the end"), (-2 * PAGE_SIZE, "Invalid")]
)
def test_read_outside_of_the_file(file: Region, offset: int, why: str) -> None:
    with pytest.raises(RegionError, match=why) as caught:
        file.read(offset, 4)
    assert "BAR0" in str(caught.value)
