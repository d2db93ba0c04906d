# SPDX-License-Identifier: GPL-2.0-only
"""Which guest physical address each BAR gets."""

from collections.abc import Iterable, Iterator

from pyvmm.memory import PAGE_SIZE, round_up
from pyvmm.vfio.bars import largest_block
from pyvmm.vfio.regions import Region

BAR_BASE = 4 << 30  # above RAM and everything else on the board


def place(regions: Iterable[Region], base: int = BAR_BASE) -> Iterator[tuple[Region, int]]:
    """Each region with its GPA, from `base` up, in the order given.

    A BAR lies on the largest page-table block that fits into it: where HVA and GPA agree modulo
    the block, KVM maps whole blocks.
    """
    gpa = base
    for region in regions:
        gpa = round_up(gpa, max(largest_block(region.size), PAGE_SIZE))
        yield region, gpa
        gpa += round_up(region.size)
