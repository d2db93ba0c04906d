# SPDX-License-Identifier: GPL-2.0-only
"""The guest physical address of each BAR."""

from collections.abc import Iterable, Iterator

from pyvmm.memory import PAGE_SIZE, round_up
from pyvmm.vfio.bars import largest_block
from pyvmm.vfio.regions import Region

BAR_BASE = 4 << 30  # above RAM and everything else on the board


def place(regions: Iterable[Region], base: int = BAR_BASE) -> Iterator[tuple[Region, int]]:
    """Yield each region with its GPA, in the given order, upwards from GPA `base`.

    A GPA is aligned to the largest page-table block that fits into the BAR. If HVA and GPA are
    equal modulo the block size, KVM maps the BAR in blocks: see arm64's
    ``fault_supports_stage2_huge_mapping``.
    """
    gpa = base
    for region in regions:
        gpa = round_up(gpa, max(largest_block(region.size), PAGE_SIZE))
        yield region, gpa
        gpa += round_up(region.size)
