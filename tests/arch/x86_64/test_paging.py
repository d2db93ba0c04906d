# SPDX-License-Identifier: GPL-2.0-only
import struct

import pytest

from pyvmm.arch.page_tables import MemoryType, Window
from pyvmm.arch.x86_64.paging import GDT, build_page_tables

GPA = 0x4000_0000
PRESENT, WRITABLE, ACCESSED, DIRTY, BLOCK = 1 << 0, 1 << 1, 1 << 5, 1 << 6, 1 << 7
NO_EXECUTE = 1 << 63


def first_leaf(window: Window) -> int:
    """Return the entry of a window at GVA 0, in the last table before the GDT's page."""
    image = build_page_tables(GPA, [window]).image
    [entry] = struct.unpack_from("<Q", image, len(image) - 0x2000)
    return int(entry)


@pytest.mark.parametrize(
    ("memory_type", "pat_type"),
    [(MemoryType.DEVICE, 0), (MemoryType.NON_CACHEABLE, 1), (MemoryType.WRITE_BACK, 6)],
)
def test_an_entry_selects_its_pat_type(memory_type: MemoryType, pat_type: int) -> None:
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
def test_an_entry_has_the_permissions_of_its_window(
    writable: bool, executable: bool, bits: int
) -> None:
    window = Window(0, 0x1234_5000, 0x1000, MemoryType.WRITE_BACK, writable, executable)
    assert first_leaf(window) == 0x1234_5000 | PRESENT | ACCESSED | DIRTY | bits


def test_2_mib_are_one_large_page() -> None:
    assert first_leaf(Window(0, 0, 2 << 20)) & BLOCK


def test_the_registers_point_to_the_gdt_and_the_tables() -> None:
    tables = build_page_tables(GPA, [Window(0, 0, 0x1000)])
    start = tables.registers["gdt.base"] - GPA
    assert tables.image[start : start + tables.registers["gdt.limit"] + 1] == GDT
    assert tables.registers["cr3"] == GPA
