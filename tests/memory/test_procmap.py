# SPDX-License-Identifier: GPL-2.0-only
from collections.abc import Callable
from functools import partial

import pytest

from pyvmm.memory import PAGE_SIZE, PROT_READ, Mapping
from pyvmm.memory.procmap import MapsEntry, _find_vma_in_smaps, find_vma

Find = Callable[[int], MapsEntry | None]
implementations = pytest.mark.parametrize(
    "find", [find_vma, partial(_find_vma_in_smaps, pid="self")]
)


@implementations
def test_find_vma_that_covers_the_address(find: Find) -> None:
    with Mapping(4 * PAGE_SIZE) as memory:
        memory.place_anonymous(at=PAGE_SIZE, size=PAGE_SIZE, prot=PROT_READ)
        start = memory.hva + PAGE_SIZE
        assert find(start + 5) == MapsEntry(start, start + PAGE_SIZE, "r--p", 0, "")


@implementations
def test_find_next_vma_above_a_hole(find: Find) -> None:
    with Mapping(4 * PAGE_SIZE) as memory:
        memory.place_anonymous(at=2 * PAGE_SIZE, size=PAGE_SIZE)
        memory.unmap(at=PAGE_SIZE, size=PAGE_SIZE)
        found = find(memory.hva + PAGE_SIZE)
        assert found is not None
        assert found.start == memory.hva + 2 * PAGE_SIZE


def test_no_vma_above_the_last() -> None:
    assert find_vma((1 << 64) - PAGE_SIZE) is None
