# SPDX-License-Identifier: GPL-2.0-only
"""Walk generated stage-2 tables; tests/machine/test_spinning_guest.py walks those of KVM."""

import contextlib
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.lab.stage2 import HCR_FWB, HCR_VM, Stage2Registers, TableLayout, WalkError, walk
from pyvmm.memory_types import stage2_type

TG0 = {12: 0b00, 14: 0b10, 16: 0b01}
SL0 = {12: {-1: 0, 0: 2, 1: 1, 2: 0, 3: 3}, 14: {0: 3, 1: 2, 2: 1, 3: 0}, 16: {1: 2, 2: 1, 3: 0}}


@dataclass(frozen=True)
class Shape:
    """A table geometry: log2 of the granule, IPA bits, the start level, 52-bit addresses."""

    page: int
    width: int
    start: int
    wide: bool

    def shift(self, level: int) -> int:
        return self.page + (self.page - 3) * (3 - level)

    @property
    def vtcr(self) -> int:
        return (
            64 - self.width
            | SL0[self.page][self.start] << 6
            | TG0[self.page] << 14
            | self.wide << 32
            | (self.start == -1) << 33
        )


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    page = draw(st.sampled_from((12, 14, 16)))
    wide = page != 16 and draw(st.booleans())
    start = draw(st.sampled_from([level for level in SL0[page] if level >= 0 or wide]))
    shift = Shape(page, 0, start, wide).shift(start)
    widest = 52 if wide or page == 16 else 48
    longest = min(shift + page - 3 + 4, widest)
    return Shape(page, draw(st.integers(min(shift + 1, longest), longest)), start, wide)


def address_field(shape: Shape, address: int) -> int:
    """Return the address field of a descriptor."""
    if shape.wide:
        return address & (1 << 50) - 1 | (address >> 50) << 8
    if shape.page == 16:
        return address & (1 << 48) - 1 | (address >> 48) << 12
    return address


class Memory:
    """Physical memory that contains only descriptors."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {}

    def read(self, pa: int, size: int) -> bytes:
        assert pa % size == 0
        return self.words.get(pa, 0).to_bytes(size, "little")


def place(shape: Shape, memory: Memory, ipa: int, leaf: int, level: int, root: int) -> None:
    """Create tables of one page each that map `ipa` by a descriptor at `level`."""
    table, bits = root, shape.width
    for step in range(shape.start, level + 1):
        shift = shape.shift(step)
        entry = table + (ipa & (1 << bits) - 1) // (1 << shift) * 8
        table = (1 << 40) + (step + 2 << 20)
        memory.words[entry] = leaf if step == level else address_field(shape, table) | 0b11
        bits = shift


@given(st.data(), shapes(), st.booleans())
def test_walk_returns_what_the_descriptor_maps(
    data: st.DataObject, shape: Shape, fwb: bool
) -> None:
    lowest = max(shape.start, 1 if shape.page == 12 else 2)
    level = data.draw(st.integers(lowest, 3))
    shift = shape.shift(level)
    ipa = data.draw(st.integers(0, (1 << shape.width) - 1))
    widest = 52 if shape.wide or shape.page == 16 else 48
    output = data.draw(st.integers(0, (1 << widest - shift) - 1)) << shift
    attribute = data.draw(st.integers(0, 15))
    leaf = address_field(shape, output) | attribute << 2 | (0b11 if level == 3 else 0b01)
    memory, root = Memory(), 1 << 41
    place(shape, memory, ipa, leaf, level, root)
    registers = Stage2Registers(root | 5 << 48, shape.vtcr, HCR_VM | fwb * HCR_FWB)

    found = walk(registers, ipa, memory.read)
    assert (found.level, found.size) == (level, 1 << shift)
    assert found.pa == output | ipa & (1 << shift) - 1
    assert found.memory_type == stage2_type(attribute, fwb=fwb)

    memory.words[next(pa for pa, word in memory.words.items() if word == leaf)] = leaf & ~1
    unmapped = walk(registers, ipa, memory.read)
    assert (unmapped.pa, unmapped.memory_type) == (None, "unmapped")


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_walk_ends_for_any_registers(vttbr: int, vtcr: int, ipa: int) -> None:
    itself = (vttbr & (1 << 48) - (1 << 16) | 0b11).to_bytes(8, "little")
    with contextlib.suppress(WalkError):
        walk(Stage2Registers(vttbr, vtcr, 0), ipa, lambda pa, size: itself)


@pytest.mark.parametrize(
    ("vtcr", "start", "entries"),
    [
        # VTCR_EL2 of KVM: 40 IPA bits start at level 1 with two tables, 48 bits at level 0.
        (0x80023558, 1, 10),
        (0x80053590, 0, 9),
    ],
)
def test_layouts_of_kvm(vtcr: int, start: int, entries: int) -> None:
    layout = TableLayout.from_vtcr(vtcr)
    assert (layout.start, layout.width - layout.shift(start)) == (start, entries)


def test_reserved_granule() -> None:
    with pytest.raises(WalkError, match="reserved granule"):
        TableLayout.from_vtcr(0b11 << 14 | 24)


def test_ipa_too_wide() -> None:
    with pytest.raises(WalkError, match="exceeds the 40 IPA bits"):
        walk(Stage2Registers(0, 0x80023558, 0), 1 << 40, Memory().read)
