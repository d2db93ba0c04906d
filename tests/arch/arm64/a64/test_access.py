# SPDX-License-Identifier: GPL-2.0-only
"""Accesses, cut at page boundaries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.arch.arm64.a64.access import Access, Kind, fetch

PAGE_SIZES = (4096, 16384, 65536)


@pytest.mark.parametrize(
    ("va", "size", "parts"),
    [
        (0x1000, 8, [(0x1000, 8)]),
        (0x1FF8, 8, [(0x1FF8, 8)]),
        (0x1FFC, 8, [(0x1FFC, 4), (0x2000, 4)]),
        (0x1FFF, 64, [(0x1FFF, 1), (0x2000, 63)]),
        (0x800, 0x2000, [(0x800, 0x800), (0x1000, 0x1000), (0x2000, 0x800)]),
        (2**64 - 4, 16, [(2**64 - 4, 4), (0, 12)]),
    ],
)
def test_pages(va: int, size: int, parts: list[tuple[int, int]]) -> None:
    found = Access(va, size, Kind.WRITE, unprivileged=True).pages(4096)
    assert list(found) == [Access(*part, Kind.WRITE, unprivileged=True) for part in parts]


@given(
    va=st.integers(0, 2**64 - 1),
    size=st.integers(1, 1 << 17),
    page_size=st.sampled_from(PAGE_SIZES),
)
def test_parts_follow_each_other_and_stay_in_their_page(va: int, size: int, page_size: int) -> None:
    at, left = va, size
    for part in Access(va, size, Kind.READ).pages(page_size):
        assert part.va == at % 2**64
        assert part.va // page_size == (part.va + part.size - 1) // page_size
        at, left = at + part.size, left - part.size
    assert left == 0


def test_fetch() -> None:
    assert fetch(0x8000) == Access(0x8000, 4, Kind.FETCH)
