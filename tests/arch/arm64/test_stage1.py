# SPDX-License-Identifier: GPL-2.0-only
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.arch.arm64 import walk
from pyvmm.arch.arm64.permissions import Permission
from pyvmm.arch.arm64.regime import Regime
from pyvmm.arch.arm64.setup import MEMORY_TYPES
from pyvmm.arch.arm64.stage1 import build_page_tables
from pyvmm.arch.page_tables import MemoryType, Window

GPA = 0x4000_0000
PAGE, BLOCK = 0b11, 0b01
AF, INNER_SHAREABLE, READ_ONLY = 1 << 10, 0b11 << 8, 1 << 7
PXN, UXN = 1 << 53, 1 << 54


def first_leaf(window: Window) -> int:
    """Return the first descriptor of the last table, for a window at GVA 0."""
    image = build_page_tables(GPA, [window]).image
    [entry] = struct.unpack_from("<Q", image, len(image) - 0x1000)
    return int(entry)


@pytest.mark.parametrize(
    ("memory_type", "attribute"),
    [
        (MemoryType.DEVICE, 0x04),
        (MemoryType.NON_CACHEABLE, 0x44),
        (MemoryType.WRITE_BACK, 0xFF),
    ],
)
def test_a_descriptor_selects_its_mair_attribute(memory_type: MemoryType, attribute: int) -> None:
    index = first_leaf(Window(0, 0, 0x1000, memory_type)) >> 2 & 0b111
    mair = build_page_tables(GPA, []).registers["MAIR_EL1"]
    assert mair >> 8 * index & 0xFF == attribute


@pytest.mark.parametrize(
    ("writable", "executable", "bits"),
    [
        (True, True, 0),
        (False, True, READ_ONLY),
        (True, False, PXN),
        (False, False, READ_ONLY | PXN),
    ],
)
def test_a_descriptor_has_the_permissions_of_its_window(
    writable: bool, executable: bool, bits: int
) -> None:
    window = Window(0, 0x1234_5000, 0x1000, MemoryType.DEVICE, writable, executable)
    assert first_leaf(window) == 0x1234_5000 | PAGE | AF | INNER_SHAREABLE | UXN | bits


@pytest.mark.parametrize("shift", [21, 30])
def test_a_large_window_is_one_block(shift: int) -> None:
    assert first_leaf(Window(0, 0, 1 << shift)) & 0b11 == BLOCK


def test_the_registers_enable_the_mmu_and_the_caches() -> None:
    registers = build_page_tables(GPA, []).registers
    assert registers["TTBR0_EL1"] == GPA
    assert registers["TCR_EL1"] & 0x3F == 64 - 48
    assert registers["SCTLR_EL1"] & (1 << 0 | 1 << 2 | 1 << 12) == 1 << 0 | 1 << 2 | 1 << 12


def walked(window: Window, gva: int) -> walk.WalkOutput | walk.WalkFailure:
    """Walk the tables for `window` with the walker, which shares no code with the builder."""
    tables = build_page_tables(GPA, [window])
    regime = Regime(
        ttbr1_el1=0,
        id_aa64mmfr0_el1=5,
        **{name.lower(): value for name, value in tables.registers.items()},
    )
    return walk.walk(regime, gva, lambda ipa, size: tables.image[ipa - GPA : ipa - GPA + size])


@given(
    page=st.integers(0, (1 << 36) - 1),
    gpa=st.integers(0, (1 << 35) - 1).map(lambda n: n * 0x1000),
    pages=st.integers(1, 1500),
    memory_type=st.sampled_from(MemoryType),
    writable=st.booleans(),
    executable=st.booleans(),
    data=st.data(),
)
def test_the_walker_finds_every_mapped_byte(
    page: int,
    gpa: int,
    pages: int,
    memory_type: MemoryType,
    writable: bool,
    executable: bool,
    data: st.DataObject,
) -> None:
    size = pages * 0x1000
    gva = page * 0x1000 % ((1 << 48) - size)
    window = Window(gva, gpa, size, memory_type, writable, executable)
    offset = data.draw(st.integers(0, size - 1))
    found = walked(window, gva + offset)
    assert isinstance(found, walk.WalkOutput)
    assert found.ipa == gpa + offset
    assert found.memory_type.lower() == MEMORY_TYPES[memory_type].lower()
    assert found.permissions.el0 == Permission.NONE
    assert (Permission.WRITE in found.permissions.el1) == writable
    assert (Permission.EXECUTE in found.permissions.el1) == executable


@given(pages=st.integers(1, 1500), data=st.data())
def test_the_walker_faults_beyond_the_window(pages: int, data: st.DataObject) -> None:
    size = pages * 0x1000
    gva = data.draw(st.integers(size, (1 << 48) - 1))
    found = walked(Window(0, 0, size), gva)
    assert isinstance(found, walk.WalkFailure)
    assert found.fault is walk.Stage1Fault.TRANSLATION
