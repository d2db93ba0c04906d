# SPDX-License-Identifier: GPL-2.0-only
"""The radix tables with a test encoding: bit 0 is a leaf, bit 1 a branch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.arch.page_tables import Window
from pyvmm.arch.radix_tables import PAGE, RadixTables

BASE = 0x4000_0000
MIB, GIB = 1 << 20, 1 << 30
LEAF, BRANCH = 1, 2


def tables(gva_bits: int = 48, largest_shift: int = 30) -> RadixTables:
    return RadixTables(
        BASE,
        leaf=lambda gpa, shift, window: gpa | LEAF,
        branch=lambda gpa: gpa | BRANCH,
        gva_bits=gva_bits,
        largest_shift=largest_shift,
    )


def walk(image: bytes, gva: int, gva_bits: int = 48) -> int | None:
    """Translate `gva`; return None if it is not mapped."""
    table, shift = BASE, 12
    while shift + 9 < gva_bits:
        shift += 9
    while True:
        place = table - BASE + (gva >> shift & 511) * 8
        entry = int.from_bytes(image[place : place + 8], "little")
        if entry & LEAF:
            return (entry & -PAGE) + gva % (1 << shift)
        if not entry & BRANCH:
            return None
        table, shift = entry & -PAGE, shift - 9


def leaves(image: bytes) -> int:
    return sum(image[place] & LEAF for place in range(0, len(image), 8))


pages = st.integers(0, (1 << 36) - 1).map(lambda n: n * PAGE)


@given(
    gva=pages,
    gpa=pages,
    size=st.integers(1, 2000).map(lambda n: n * PAGE),
    largest_shift=st.sampled_from([12, 21, 30]),
    data=st.data(),
)
def test_every_byte_of_a_window_is_mapped(
    gva: int, gpa: int, size: int, largest_shift: int, data: st.DataObject
) -> None:
    gva = min(gva, (1 << 48) - size)
    built = tables(largest_shift=largest_shift)
    built.map(Window(gva, gpa, size))
    offset = data.draw(st.integers(0, size - 1))
    assert walk(built.image, gva + offset) == gpa + offset


@given(gva=pages, size=st.integers(1, 2000).map(lambda n: n * PAGE))
def test_nothing_next_to_a_window_is_mapped(gva: int, size: int) -> None:
    gva = min(gva, (1 << 48) - size)
    built = tables()
    built.map(Window(gva, 0, size))
    for outside in (gva - 1, gva + size):
        if 0 <= outside < 1 << 48:
            assert walk(built.image, outside) is None


@pytest.mark.parametrize("gva_bits", range(25, 49))
def test_the_root_fits_the_address_width(gva_bits: int) -> None:
    built = tables(gva_bits=gva_bits)
    top = (1 << gva_bits) - PAGE
    built.map(Window(top, 0x1234000, PAGE))
    assert walk(built.image, top + 5, gva_bits) == 0x1234005


@pytest.mark.parametrize(
    ("gva", "gpa", "size", "largest_shift", "expect"),
    [
        (0, 0, 4 * GIB, 30, 4),
        (0, 0, 4 * GIB, 21, 2048),
        (0, 0, 2 * MIB, 12, 512),
        (0, 2 * MIB, GIB, 30, 512),  # GVA and GPA differ modulo 1 GiB
        (PAGE, PAGE, 4 * MIB - PAGE, 30, 511 + 1),
    ],
)
def test_blocks_are_as_large_as_the_addresses_allow(
    gva: int, gpa: int, size: int, largest_shift: int, expect: int
) -> None:
    built = tables(largest_shift=largest_shift)
    built.map(Window(gva, gpa, size))
    assert leaves(built.image) == expect


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Window(0, 0, PAGE), Window(0, 0, PAGE)),
        (Window(0, 0, 2 * MIB), Window(PAGE, 0, PAGE)),
        (Window(PAGE, 0, PAGE), Window(0, 0, 2 * MIB)),
    ],
)
def test_windows_must_not_overlap(first: Window, second: Window) -> None:
    built = tables()
    built.map(first)
    with pytest.raises(ValueError, match="mapped twice"):
        built.map(second)


@pytest.mark.parametrize(
    "window",
    [Window(1, 0, PAGE), Window(0, 1, PAGE), Window(0, 0, 1), Window(0, 0, 0)],
)
def test_a_window_is_a_multiple_of_4_kib(window: Window) -> None:
    with pytest.raises(ValueError, match="not a multiple of 4 KiB"):
        tables().map(window)


def test_a_window_must_fit_in_the_address_space() -> None:
    with pytest.raises(ValueError, match="beyond the 48-bit"):
        tables().map(Window((1 << 48) - PAGE, 0, 2 * PAGE))


def test_tables_are_page_aligned() -> None:
    with pytest.raises(ValueError, match="4 KiB boundary"):
        RadixTables(1, leaf=lambda *_: 0, branch=lambda _: 0, gva_bits=48, largest_shift=30)
