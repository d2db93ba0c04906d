# SPDX-License-Identifier: GPL-2.0-only
import struct

import pytest

from pyvmm.arch.page_tables import MemoryType, Window
from pyvmm.arch.x86_64.paging import GDT, build_page_tables

GPA = 0x4000_0000
PRESENT, WRITABLE, ACCESSED, DIRTY, BLOCK = 1 << 0, 1 << 1, 1 << 5, 1 << 6, 1 << 7
NO_EXECUTE = 1 << 63


def first_leaf(window: Window, largest_shift: int = 12) -> int:
    """The entry of a window at GVA 0, in the last table before the GDT's page."""
    image = build_page_tables(GPA, [window], largest_shift=largest_shift).image
    [entry] = struct.unpack_from("<Q", image, len(image) - 0x2000)
    return int(entry)


@pytest.mark.parametrize(
    ("memory_type", "pat_type"),
    [(MemoryType.DEVICE, 0), (MemoryType.NON_CACHEABLE, 1), (MemoryType.WRITE_BACK, 6)],
)
def test_an_entry_leads_to_its_pat_type(memory_type: MemoryType, pat_type: int) -> None:
    index = first_leaf(Window(0, 0, 0x1000, memory_type)) >> 3 & 0b11
    pat = build_page_tables(GPA, []).registers["pat"]
    assert pat >> 8 * index & 0xFF == pat_type


@pytest.mark.parametrize(
    ("writable", "executable", "bits"),
    [
        (True, True, WRITABLE),
        (False, True, 0),
        (True, False, WRITABLE | NO_EXECUTE),
        (False, False, NO_EXECUTE),
    ],
)
def test_an_entry_says_what_the_guest_may_do(writable: bool, executable: bool, bits: int) -> None:
    window = Window(0, 0x1234_5000, 0x1000, MemoryType.WRITE_BACK, writable, executable)
    assert first_leaf(window) == 0x1234_5000 | PRESENT | ACCESSED | DIRTY | bits


@pytest.mark.parametrize("shift", [21, 30])
def test_blocks_are_blocks(shift: int) -> None:
    assert first_leaf(Window(0, 0, 1 << shift), largest_shift=shift) & BLOCK


def test_the_gdt_is_where_the_registers_say() -> None:
    made = build_page_tables(GPA, [Window(0, 0, 0x1000)])
    at = made.registers["gdt.base"] - GPA
    assert made.image[at : at + made.registers["gdt.limit"] + 1] == GDT
    assert made.registers["cr3"] == GPA
