# SPDX-License-Identifier: GPL-2.0-only
from collections.abc import Callable
from functools import partial

import pytest

from pyvmm.memory import PAGE_SIZE, READ, RW, Mapping
from pyvmm.memory.procmap import Area, _at_or_after_in_smaps, at_or_after

Find = Callable[[int], Area | None]
ways = pytest.mark.parametrize("find", [at_or_after, partial(_at_or_after_in_smaps, pid="self")])


@ways
def test_both_ways_tell_the_same(find: Find) -> None:
    with Mapping(4 * PAGE_SIZE) as memory:
        memory.place_anonymous(at=PAGE_SIZE, size=PAGE_SIZE, prot=READ)
        start = memory.hva + PAGE_SIZE
        assert find(start + 5) == Area(start, start + PAGE_SIZE, "r--p", 0, "")


@ways
def test_above_a_hole_comes_the_next(find: Find) -> None:
    with Mapping(4 * PAGE_SIZE) as memory:
        memory.place_anonymous(at=2 * PAGE_SIZE, size=PAGE_SIZE, prot=RW)
        memory.unmap(at=PAGE_SIZE, size=PAGE_SIZE)
        found = find(memory.hva + PAGE_SIZE)
        assert found is not None
        assert found.start == memory.hva + 2 * PAGE_SIZE


def test_nothing_is_above_the_top() -> None:
    assert at_or_after((1 << 64) - PAGE_SIZE) is None
