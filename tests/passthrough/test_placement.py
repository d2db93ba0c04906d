# SPDX-License-Identifier: GPL-2.0-only
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.ioctl import Fd
from pyvmm.memory import PAGE_SIZE
from pyvmm.passthrough.placement import BAR_BASE, place
from pyvmm.vfio.bars import largest_block
from pyvmm.vfio.regions import Region

sizes = st.lists(st.integers(0, 34).map(lambda n: 1 << n), max_size=6)


def regions(sizes: list[int]) -> list[Region]:
    return [Region(Fd(-1), n, size=size, offset=0, flags=()) for n, size in enumerate(sizes)]


@given(sizes)
def test_bars_do_not_overlap(sizes: list[int]) -> None:
    end = BAR_BASE
    for region, gpa in place(regions(sizes)):
        assert gpa >= end
        end = gpa + region.size


@given(sizes)
def test_gpas_are_block_aligned(sizes: list[int]) -> None:
    for region, gpa in place(regions(sizes)):
        assert gpa % max(largest_block(region.size), PAGE_SIZE) == 0


def test_order() -> None:
    assert [region.index for region, _ in place(regions([1 << 30, 1, 1 << 21]))] == [0, 1, 2]
