# SPDX-License-Identifier: GPL-2.0-only
"""Accesses: splitting at page boundaries, and alignment on Device memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.arch.arm64.a64.access import Access, Kind, fetch
from pyvmm.arch.arm64.a64.decode import decode
from pyvmm.arch.arm64.a64.operation import NoAccess, Undecodable

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
def test_an_access_is_split_at_page_boundaries(
    va: int, size: int, parts: list[tuple[int, int]]
) -> None:
    found = Access(va, size, Kind.WRITE).pages(4096)
    assert list(found) == [Access(*part, Kind.WRITE) for part in parts]


@given(
    va=st.integers(0, 2**64 - 1),
    size=st.integers(1, 1 << 17),
    page_size=st.sampled_from(PAGE_SIZES),
)
def test_parts_are_consecutive_and_within_a_page(va: int, size: int, page_size: int) -> None:
    at, left = va, size
    for part in Access(va, size, Kind.READ).pages(page_size):
        assert part.va == at % 2**64
        assert part.va // page_size == (part.va + part.size - 1) // page_size
        at, left = at + part.size, left - part.size
    assert left == 0


@pytest.mark.parametrize(
    ("form", "va", "why"),
    [
        (0xF9400044, 0x1008, None),  # ldr x4, [x2]
        (0xF9400044, 0x1004, "is not aligned to 8 bytes"),
        (0x39400044, 0x1003, None),  # ldrb w4, [x2]
        (0xA9401444, 0x1008, None),  # ldp x4, x5, [x2]
        (0xA9401444, 0x1004, "is not aligned to 8 bytes"),
        (0x3DC00040, 0x1008, "is not aligned to 16 bytes"),  # ldr q0, [x2]
        (0x4C407840, 0x1004, None),  # ld1 {v0.4s}, [x2]
        (0xC87F1444, 0x1008, "is not aligned to 16 bytes"),  # ldxp x4, x5, [x2]
        (0xB8240045, 0x1002, "is not aligned to 4 bytes"),  # ldadd w4, w5, [x2]
        (0x48247C46, 0x1008, "is not aligned to 16 bytes"),  # casp x4, x5, x6, x7, [x2]
        (0xD50B7422, 0x1000, "zeroes a block, which Device memory never takes"),  # dc zva, x2
        (0xD50B7A22, 0x1001, None),  # dc cvac, x2
    ],
)
def test_accesses_that_fault_on_device_memory(form: int, va: int, why: str | None) -> None:
    operation = decode(form)
    assert not isinstance(operation, NoAccess | Undecodable)
    registers = {"x2": va, "DCZID_EL0": 4, "CTR_EL0": 4 << 16}
    assert {access.unaligned_for_device for access in operation.accesses(registers)} == {why}


def test_a_fetch_is_4_bytes() -> None:
    assert fetch(0x8000) == Access(0x8000, 4, Kind.FETCH)
