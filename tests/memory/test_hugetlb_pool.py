# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from pyvmm.memory.hugetlb_pool import HugetlbPool, default_size, hugetlb_pool


@pytest.mark.parametrize(
    ("pool", "empty"),
    [
        (HugetlbPool(0, 0, 0, 0), True),
        (HugetlbPool(3, 3, 0, 0), True),
        (HugetlbPool(3, 2, 0, 0), False),
        (HugetlbPool(0, 0, 1, 2), False),
        (HugetlbPool(0, 0, 2, 2), True),
    ],
)
def test_a_pool_is_empty(pool: HugetlbPool, empty: bool) -> None:
    assert pool.empty is empty


def test_the_pool_of_the_kernel() -> None:
    if not (size := default_size()):
        pytest.skip("this kernel has no hugetlb: it needs CONFIG_HUGETLBFS")
    free = int(Path("/proc/meminfo").read_text().partition("HugePages_Free:")[2].split()[0])
    assert hugetlb_pool(size).free == free


def test_there_is_no_such_pool() -> None:
    with pytest.raises(FileNotFoundError):
        hugetlb_pool(3 << 10)
