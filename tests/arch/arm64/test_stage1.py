# SPDX-License-Identifier: GPL-2.0-only
import struct

import pytest

from pyvmm.arch.arm64.stage1 import translation
from pyvmm.arch.translation import MemoryType, Window

GPA = 0x4000_0000
PAGE, BLOCK = 0b11, 0b01
AF, INNER_SHAREABLE, READ_ONLY = 1 << 10, 0b11 << 8, 1 << 7
PXN, UXN = 1 << 53, 1 << 54


def first_leaf(window: Window, largest_shift: int = 12) -> int:
    """The descriptor of a window at GVA 0, below one branch a level."""
    image = translation(GPA, [window], largest_shift=largest_shift).image
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
def test_a_descriptor_leads_to_its_attribute(memory_type: MemoryType, attribute: int) -> None:
    index = first_leaf(Window(0, 0, 0x1000, memory_type)) >> 2 & 0b111
    mair = translation(GPA, []).registers["MAIR_EL1"]
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
def test_a_descriptor_says_what_el1_may_do(writable: bool, executable: bool, bits: int) -> None:
    window = Window(0, 0x1234_5000, 0x1000, MemoryType.DEVICE, writable, executable)
    assert first_leaf(window) == 0x1234_5000 | PAGE | AF | INNER_SHAREABLE | UXN | bits


@pytest.mark.parametrize("shift", [21, 30])
def test_blocks_are_blocks(shift: int) -> None:
    assert first_leaf(Window(0, 0, 1 << shift), largest_shift=shift) & 0b11 == BLOCK


def test_the_registers_switch_the_mmu_and_the_caches_on() -> None:
    registers = translation(GPA, [], gva_bits=39).registers
    assert registers["TTBR0_EL1"] == GPA
    assert registers["TCR_EL1"] & 0x3F == 64 - 39
    assert registers["SCTLR_EL1"] & (1 << 0 | 1 << 2 | 1 << 12) == 1 << 0 | 1 << 2 | 1 << 12


@pytest.mark.parametrize("gva_bits", [24, 49])
def test_t0sz_has_limits(gva_bits: int) -> None:
    with pytest.raises(ValueError, match="25 to 48"):
        translation(GPA, [], gva_bits=gva_bits)
