# SPDX-License-Identifier: GPL-2.0-only
"""Rebuilding an access from any guest state; tests/faults has the tests with KVM."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.arch.arm64.reconstruct import rebuild
from pyvmm.arch.guest_access import RebuiltAccess
from tests.arch.arm64.stopped import SIZE, Memory, stopped_vcpu

EL0, EL1H, EL2T, EL2H = 0b0000, 0b0101, 0b1000, 0b1001
HCR_VM, HCR_DC, HCR_TGE = 1 << 0, 1 << 12, 1 << 27
AARCH32 = 1 << 4
PC = 0x1000
LDR_X4_X2 = 0xF9400044
LDP_X4_X5_X2 = 0xA9401444
LDADD_W4_W5_X2 = 0xB8240045

words = st.integers(0, (1 << 32) - 1)
doublewords = st.one_of(st.integers(0, (1 << 64) - 1), st.integers(0, SIZE + 8))
TRANSLATION = ("SCTLR_EL1", "TCR_EL1", "TTBR0_EL1", "TTBR1_EL1", "MAIR_EL1", "ID_AA64MMFR0_EL1")


def rebuilt_at_pc(word: int, **registers: int) -> RebuiltAccess:
    """Rebuild the access of an instruction at `PC` with the MMU off."""
    memory = Memory()
    memory.write(PC, word.to_bytes(4, "little"))
    return rebuild(stopped_vcpu({"pc": PC, "pstate": EL1H, **registers}, memory))


def accesses(rebuilt: RebuiltAccess) -> list[tuple[int, int, str]]:
    return [(page.gpa, page.size, page.access) for page in rebuilt.pages]


@pytest.mark.parametrize(
    ("word", "x2", "data"),
    [
        (LDR_X4_X2, 0x2000, [(0x2000, 8, "read")]),
        (LDR_X4_X2, 0x2FFC, [(0x2FFC, 4, "read"), (0x3000, 4, "read")]),
        (LDP_X4_X5_X2, 0x2FFC, [(0x2FFC, 4, "read"), (0x3000, 12, "read")]),
        (LDADD_W4_W5_X2, 0x2000, [(0x2000, 4, "read"), (0x2000, 4, "write")]),
    ],
)
def test_pages_are_in_the_order_of_access(
    word: int, x2: int, data: list[tuple[int, int, str]]
) -> None:
    rebuilt = rebuilt_at_pc(word, x2=x2)
    assert accesses(rebuilt) == [(PC, 4, "exec"), *data]
    assert (rebuilt.pc, rebuilt.incomplete) == (PC, None)


def test_with_the_mmu_off_no_access_is_unaligned_for_stage_2_alone() -> None:
    assert rebuilt_at_pc(LDR_X4_X2, x2=0x2004).pages[-1].unaligned_for_device is None


@pytest.mark.parametrize(
    ("word", "registers", "incomplete"),
    [
        (0x0000_0000, {}, "not an instruction"),
        (0xD65F_03C0, {}, "accesses no memory"),
        (LDR_X4_X2, {"pstate": AARCH32}, "AArch32"),
        (LDR_X4_X2, {"pstate": EL2H}, "the vCPU runs at EL2"),
        (LDR_X4_X2, {"pstate": EL2T}, "the vCPU runs at EL2"),
        (LDR_X4_X2, {"pstate": EL0, "HCR_EL2": HCR_TGE}, "HCR_EL2.TGE"),
        (LDR_X4_X2, {"HCR_EL2": HCR_VM}, "a nested guest"),
        (LDR_X4_X2, {"HCR_EL2": HCR_DC}, "a nested guest"),
        (LDR_X4_X2, {"x2": 1 << 60}, "addresses have 32 bits"),
        (LDR_X4_X2, {"pc": PC + 2}, "PC alignment fault"),
        (LDR_X4_X2, {"pc": SIZE}, "cannot be read from guest memory"),
    ],
)
def test_an_incomplete_access_has_a_reason(
    word: int, registers: dict[str, int], incomplete: str
) -> None:
    rebuilt = rebuilt_at_pc(word, **registers)
    assert rebuilt.incomplete is not None
    assert incomplete in rebuilt.incomplete


def test_a_table_that_points_to_itself_is_read_once_per_level() -> None:
    memory = Memory()
    memory.write(0, (0 | 0b11).to_bytes(8, "little") * 512)
    tcr = 16 | 1 << 23  # 48 bits with 4 KiB; no TTBR1
    registers = {"pc": 0x1000, "pstate": EL1H, "SCTLR_EL1": 1, "TCR_EL1": tcr}
    rebuilt = rebuild(stopped_vcpu(registers, memory))
    assert len([page for page in rebuilt.pages if page.is_table]) <= 4


@given(
    word=words,
    registers=st.dictionaries(st.sampled_from([f"x{n}" for n in range(31)]), doublewords),
    pc=doublewords,
    pstate=st.integers(0, (1 << 32) - 1),
    translation=st.fixed_dictionaries({}, optional=dict.fromkeys(TRANSLATION, doublewords)),
    content=st.binary(max_size=256),
)
def test_any_guest_state_can_be_rebuilt(
    word: int,
    registers: dict[str, int],
    pc: int,
    pstate: int,
    translation: dict[str, int],
    content: bytes,
) -> None:
    memory = Memory(content * (SIZE // 256))
    memory.write(pc, word.to_bytes(4, "little"))
    given_ = {**registers, **translation, "pc": pc, "pstate": pstate}
    rebuilt = rebuild(stopped_vcpu(given_, memory))
    assert rebuilt.pc == pc
    assert str(rebuilt.instruction)
    for page in rebuilt.pages:
        assert 0 < page.size <= 4096 - page.gpa % 4096


TABLES, DATA = 0x4000, 0x2000
AF, READ_ONLY, DBM = 1 << 10, 1 << 7, 1 << 51
HA, HD = 1 << 39, 1 << 40


def rebuilt_with_tables(word: int, leaf: int, tcr: int) -> list[tuple[int, int, str]]:
    """Return the accesses of an instruction at `PC` to `DATA`, whose page has these leaf bits.

    4 KiB granule, 39 bits: tables of three levels. The page of the code has AF set.
    """
    memory = Memory()
    memory.write(PC, word.to_bytes(4, "little"))
    for n, entry in enumerate((TABLES + 0x1000 | 3, TABLES + 0x2000 | 3)):
        memory.write(TABLES + n * 0x1000, entry.to_bytes(8, "little"))
    for page, bits in ((PC, AF), (DATA, leaf)):
        entry = page | bits | 3
        memory.write(TABLES + 0x2000 + (page >> 12) * 8, entry.to_bytes(8, "little"))
    registers = {
        "pc": PC,
        "pstate": EL1H,
        "x2": DATA,
        "SCTLR_EL1": 1,
        "TCR_EL1": 25 | tcr,
        "TTBR0_EL1": TABLES,
        "MAIR_EL1": 0xFF,
    }
    rebuilt = rebuild(stopped_vcpu(registers, memory))
    assert rebuilt.incomplete is None
    return [(p.gpa, p.size, p.access) for p in rebuilt.pages if not p.already_read]


STR_X4_X2 = 0xF9000044
UPDATE = (TABLES + 0x2000 + (DATA >> 12) * 8, 8, "write")


@pytest.mark.parametrize(
    ("word", "leaf", "tcr", "updates"),
    [
        (LDR_X4_X2, AF, HA, []),
        (LDR_X4_X2, 0, HA, [UPDATE]),
        (STR_X4_X2, AF, HA, []),
        (STR_X4_X2, AF | DBM | READ_ONLY, HA | HD, [UPDATE]),
        (STR_X4_X2, AF | DBM, HA | HD, []),
        (STR_X4_X2, AF | DBM | READ_ONLY, HA, []),
        (LDR_X4_X2, AF | DBM | READ_ONLY, HA | HD, []),
    ],
)
def test_the_walk_updates_the_descriptor(
    word: int, leaf: int, tcr: int, updates: list[tuple[int, int, str]]
) -> None:
    access = "write" if word == STR_X4_X2 else "read"
    assert rebuilt_with_tables(word, leaf, tcr) == [*updates, (DATA, 8, access)]


@pytest.mark.parametrize(
    ("word", "atomic"),
    [
        (LDR_X4_X2, False),
        (LDP_X4_X5_X2, False),
        (LDADD_W4_W5_X2, True),
        (0xC85F7C44, True),  # ldxr x4, [x2]
        (0xC8067C44, True),  # stxr w6, x4, [x2]
        (0xC8A47C45, True),  # cas x4, x5, [x2]
    ],
)
def test_atomic_accesses(word: int, atomic: bool) -> None:
    assert {page.atomic for page in rebuilt_at_pc(word, x2=0x2000).pages[1:]} == {atomic}
