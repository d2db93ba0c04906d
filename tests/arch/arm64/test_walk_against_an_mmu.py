# SPDX-License-Identifier: GPL-2.0-only
"""The walk compared with an emulated CPU's MMU, on page tables of random descriptors."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvmm.arch.arm64.permissions import Permission
from pyvmm.arch.arm64.regime import LAST_LEVEL, Regime
from pyvmm.arch.arm64.walk import Stage1Fault, WalkFailure, WalkOutput, walk
from pyvmm.memory_types import stage1_type
from tests.arch.arm64.mmu import FLAT_SIZE, FLAT_TABLE, TABLES, Mmu

STATUS = {Stage1Fault.TRANSLATION: 1, Stage1Fault.ACCESS_FLAG: 2, Stage1Fault.PERMISSION: 3}
NEED = {"r": Permission.READ, "w": Permission.WRITE}
PA_48_BITS = 5
TG0, TG1 = (0b00, 0b10, 0b01), (0b10, 0b01, 0b11)  # 4, 16, 64 KiB
MAIR = 0xFF_BB_F0_4F_44_0C_04_00


def descriptors(seed: int) -> bytes:
    """Return tables with random pointers to each other, blocks, pages and invalid entries."""
    chance = random.Random(seed)
    words = []
    for _ in range(0, len(TABLES), 8):
        word = chance.getrandbits(64) & ~(0xFFFF_FFFF_F003) & ~(1 << 51)
        match chance.choices(("table or page", "block", "none"), (16, 3, 1))[0]:
            case "table or page":
                word |= chance.randrange(TABLES.start, TABLES.stop, 0x1_0000) | 0b11
            case "block":
                # QEMU 5.0 adds the bits below a block's size, which are RES0, to the address.
                word |= chance.getrandbits(18) << 30 | 0b01
        if chance.random() < 0.8:
            word |= 1 << 10
            word &= ~(0b11 << 61)
        words.append(word.to_bytes(8, "little"))
    return b"".join(words)


@pytest.fixture(scope="module")
def mmu() -> Mmu:
    mmu = Mmu()
    mmu.fill(descriptors(1))
    return mmu


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, int], int]:
    """Draw registers for one half of the address space, and a GVA in or near it."""
    upper = draw(st.booleans())
    granule = draw(st.integers(0, 2))
    size = draw(st.integers(16, 39))
    table = draw(st.integers(TABLES.start // 0x1_0000, TABLES.stop // 0x1_0000 - 1)) * 0x1_0000
    tbi, hpd, epd = (draw(st.sampled_from((*[0] * often, 1))) for often in (1, 1, 20))
    tcr = PA_48_BITS << 32 | tbi << 37 + upper | hpd << 41 + upper
    offset = draw(st.integers(0, (1 << 64) - 1))
    low = offset & ((1 << (64 - size)) - 1)
    high = ((1 << 64) - 1) >> (64 - size) << (64 - size) if upper else 0
    strange = draw(st.sampled_from((*[0] * 20, 0xA5 << 56, 1 << 54, 1 << (63 - size))))
    va = ((low | high) ^ strange) & ~(1 << 55) | upper << 55
    if upper:
        tcr |= size << 16 | TG1[granule] << 30 | FLAT_SIZE | epd << 23
    else:
        tcr |= size | TG0[granule] << 14 | FLAT_SIZE << 16 | 0b10 << 30 | epd << 7
    registers = {
        "sctlr_el1": 1,
        "tcr_el1": tcr,
        "ttbr0_el1": FLAT_TABLE if upper else table,
        "ttbr1_el1": table if upper else FLAT_TABLE,
        "mair_el1": MAIR,
    }
    return registers, va


@settings(max_examples=300, deadline=None)
@given(case=cases(), el=st.sampled_from((0, 1)), access=st.sampled_from(("r", "w")))
def test_an_mmu_agrees(case: tuple[dict[str, int], int], el: int, access: str, mmu: Mmu) -> None:
    registers, va = case
    regime = Regime(**registers, id_aa64mmfr0_el1=PA_48_BITS)
    found = walk(regime, va, mmu.read, need=NEED[access], el0=el == 0)
    result = mmu.translate(registers, va, el, access)
    if isinstance(found, WalkOutput):
        assert not result.failed, f"{result.fault}, {found}"
        assert result.page == found.ipa & ~0xFFF
        assert stage1_type(result.attribute) == found.memory_type
    elif not _is_block_too_high(found):
        assert result.failed, found
        assert result.fault == (STATUS[found.fault], found.level), found


def _is_block_too_high(found: WalkFailure) -> bool:
    """Return True for a block at a level without blocks, which QEMU 5.0 accepts."""
    if found.fault is not Stage1Fault.TRANSLATION or not found.steps:
        return False
    return found.steps[-1].value & 0b11 == 0b01 and found.level != LAST_LEVEL
