# SPDX-License-Identifier: GPL-2.0-only
"""The stage-1 walk on tables in sparse memory, from a builder of this test."""

import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvmm.arch.arm64.permissions import Permission
from pyvmm.arch.arm64.regime import Regime
from pyvmm.arch.arm64.walk import Stage1Fault, WalkFailure, WalkOutput, walk

MAIR = 0xF0_BB_00_0C_FF_44_04_00
MEMORY_TYPES = (
    "Device-nGnRnE",
    "Device-nGnRE",
    "Normal-NC",
    "Normal-WB",
    "Device-GRE",
    "Device-nGnRnE",
    "Normal-WT",
    "Normal-WB tagged",
)

AF, AP_EL0, AP_RO, PXN, UXN, DBM = 1 << 10, 1 << 6, 1 << 7, 1 << 53, 1 << 54, 1 << 51
SOFTWARE_BITS = 0b1111 << 55 | 1 << 52 | 1 << 11  # software use, contiguous, nG


@dataclass(frozen=True)
class Geometry:
    """The shape of a table tree: page bits, VA bits, and the encoding of 52-bit addresses."""

    page: int
    va_bits: int
    wide: str = ""  # "" | "LPA" | "LPA2"

    @property
    def pa_bits(self) -> int:
        return 52 if self.wide else 48

    def levels(self) -> list[tuple[int, int, int]]:
        """Return (level, top bit + 1, lowest bit) of each level's index, last level first."""
        found, low, level = [], self.page, 3
        while low < self.va_bits:
            high = min(low + self.page - 3, self.va_bits)
            found.append((level, high, low))
            low, level = high, level - 1
        return found

    def block_levels(self) -> list[int]:
        wide = bool(self.wide)
        allowed = {12: [0] * wide + [1, 2, 3], 14: [1] * wide + [2, 3], 16: [1] * wide + [2, 3]}
        return [level for level, _, _ in self.levels() if level in allowed[self.page]]

    def encode(self, address: int) -> int:
        """Encode an address for a descriptor."""
        if self.wide == "LPA2":
            return address & ((1 << 50) - 1) | address >> 50 << 8
        if self.wide == "LPA":
            return address & ((1 << 48) - 1) | address >> 48 << 12
        return address

    def regime(self, upper: bool, table: int, **changes: int) -> Regime:
        size = 64 - self.va_bits
        ips = 6 if self.wide else 5
        if upper:
            tcr = size << 16 | {12: 0b10, 14: 0b01, 16: 0b11}[self.page] << 30 | 1 << 7
        else:
            tcr = size | {12: 0b00, 14: 0b10, 16: 0b01}[self.page] << 14 | 1 << 23
        tcr |= ips << 32 | (self.wide == "LPA2") << 59
        ttbr = table & ((1 << 48) - 1) | table >> 48 << 2 if self.wide else table
        registers = {
            "sctlr_el1": 1,
            "tcr_el1": tcr,
            "ttbr0_el1": 0 if upper else ttbr,
            "ttbr1_el1": ttbr if upper else 0,
            "mair_el1": MAIR,
            "id_aa64mmfr0_el1": ips | 1 << 28 | 2 << 20,
        }
        return Regime(**(registers | changes))


@dataclass
class Memory:
    """Descriptors by IPA; all other addresses are unreadable."""

    words: dict[int, int] = field(default_factory=dict)
    order: Any = "little"
    reads: int = 0

    def read(self, ipa: int, size: int) -> bytes | None:
        self.reads += 1
        assert size == 8
        value = self.words.get(ipa)
        return None if value is None else value.to_bytes(8, self.order)


def build_path(
    geometry: Geometry,
    va: int,
    level: int,
    ipa: int,
    tables: list[int],
    *,
    attributes: int = AF,
    limits: int = 0,
) -> Memory:
    """Build the path of tables (first to last, at these addresses) that maps `va` to `ipa`."""
    memory = Memory()
    path = [part for part in reversed(geometry.levels()) if part[0] <= level]
    for (here, high, low), table, following in zip(path, tables, [*tables[1:], None], strict=False):
        slot = table + (va >> low & ((1 << (high - low)) - 1)) * 8
        if here == level:
            kind = 0b11 if level == 3 else 0b01
            memory.words[slot] = geometry.encode(ipa) | attributes | kind
        else:
            assert following is not None
            memory.words[slot] = geometry.encode(following) | limits | 0b11
    return memory


GEOMETRIES = [
    *(Geometry(12, bits) for bits in (16, 25, 36, 39, 42, 47, 48)),
    *(Geometry(14, bits) for bits in (16, 36, 40, 47, 48)),
    *(Geometry(16, bits) for bits in (25, 36, 42, 48, 52)),
    *(Geometry(12, bits, "LPA2") for bits in (39, 48, 49, 51, 52)),
    *(Geometry(14, bits, "LPA2") for bits in (36, 48, 52)),
    *(Geometry(16, bits, "LPA") for bits in (36, 48, 52)),
]


@st.composite
def mappings(draw: st.DrawFn, geometry: Geometry) -> dict[str, Any]:
    level = draw(st.sampled_from(geometry.block_levels()))
    shift = next(low for here, _, low in geometry.levels() if here == level)
    space = st.integers(0, (1 << geometry.pa_bits) - 1)
    # Distinct page-aligned tables; page alignment always suffices for the first one.
    pages = draw(
        st.lists(
            st.integers(0, (1 << (geometry.pa_bits - geometry.page)) - 1),
            min_size=5,
            max_size=5,
            unique=True,
        )
    )
    upper = draw(st.booleans())
    offset = draw(st.integers(0, (1 << geometry.va_bits) - 1))
    return {
        "level": level,
        "size": 1 << shift,
        "ipa": draw(space) >> shift << shift,
        "tables": [page << geometry.page for page in pages],
        "upper": upper,
        "va": offset | (((1 << 64) - (1 << geometry.va_bits)) if upper else 0),
        "index": draw(st.integers(0, 7)),
        "noise": draw(st.integers(0, (1 << 64) - 1)) & SOFTWARE_BITS,
    }


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@settings(max_examples=30)
@given(data=st.data())
def test_a_mapped_page_is_found(geometry: Geometry, data: st.DataObject) -> None:
    case = data.draw(mappings(geometry))
    attributes = AF | case["index"] << 2 | case["noise"]
    memory = build_path(
        *(geometry, case["va"], case["level"], case["ipa"], case["tables"]), attributes=attributes
    )
    regime = geometry.regime(case["upper"], case["tables"][0])
    found = walk(regime, case["va"], memory.read)
    assert isinstance(found, WalkOutput), found
    assert found.ipa == case["ipa"] + case["va"] % case["size"]
    assert (found.level, found.size) == (case["level"], case["size"])
    assert found.memory_type == MEMORY_TYPES[case["index"]]
    assert [step.ipa for step in found.steps] == list(memory.words)
    assert found.steps[-1].ipa == list(memory.words)[-1]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@settings(max_examples=30)
@given(data=st.data())
def test_a_missing_or_invalid_descriptor_is_reported(
    geometry: Geometry, data: st.DataObject
) -> None:
    case = data.draw(mappings(geometry))
    memory = build_path(geometry, case["va"], case["level"], case["ipa"], case["tables"])
    broken = data.draw(st.sampled_from(list(memory.words)))
    depth = list(memory.words).index(broken)
    level = case["level"] - len(memory.words) + 1 + depth
    regime = geometry.regime(case["upper"], case["tables"][0])
    if data.draw(st.booleans()):
        memory.words[broken] &= ~1
        expected: tuple[Any, ...] = (Stage1Fault.TRANSLATION, level, None)
    else:
        del memory.words[broken]
        expected = (Stage1Fault.TABLE_OUTSIDE_MEMORY, level, broken)
    found = walk(regime, case["va"], memory.read)
    assert isinstance(found, WalkFailure)
    assert (found.fault, found.level, found.table_ipa) == expected


registers = st.integers(0, (1 << 64) - 1)
sane_tcr = st.builds(
    lambda t0, t1, rest: rest & ~0x00BF_00BF | t0 | t1 << 16,
    st.integers(12, 39),
    st.integers(12, 39),
    registers,
)


@given(
    regime=st.builds(
        Regime,
        sctlr_el1=registers | registers.map(lambda value: value | 1),
        tcr_el1=registers | sane_tcr,
        ttbr0_el1=registers,
        ttbr1_el1=registers,
        mair_el1=registers,
        id_aa64mmfr0_el1=registers,
        tcr2_el1=st.sampled_from((0, 2)) | registers,
        pir_el1=registers,
        pire0_el1=registers,
    ),
    va=registers | registers.map(lambda value: value & ((1 << 36) - 1)),
    seed=st.integers(0, 1 << 32),
    need=st.integers(0, 7).map(Permission),
    el0=st.booleans(),
)
def test_random_registers_and_tables_have_a_result(
    regime: Regime, va: int, seed: int, need: Permission, el0: bool
) -> None:
    reads = []

    def read(ipa: int, size: int) -> bytes | None:
        reads.append(ipa)
        chance = random.Random(seed ^ ipa)
        word = chance.getrandbits(64) | chance.choice((0, 1, 3, 3 | AF))
        return None if chance.random() < 0.1 else word.to_bytes(size, "little")

    found = walk(regime, va, read, need=need, el0=el0)
    assert isinstance(found, WalkOutput | WalkFailure)
    assert str(found)
    assert len(reads) <= 5
    assert all(0 <= ipa < 1 << 52 for ipa in reads)


PLAIN = Geometry(12, 48)
VA, IPA, TABLE = 0x1234_5678_9ABC, 0x8000_0000, 0x4000_0000
TABLES = [TABLE + n * 0x1000 for n in range(4)]


def walk_to_page(
    attributes: int = AF, limits: int = 0, *, level: int = 3, tcr: int = 0, **keywords: Any
) -> WalkOutput | WalkFailure:
    """Walk to one page of `PLAIN` with changed registers."""
    arguments = {name: keywords.pop(name) for name in ("need", "el0") if name in keywords}
    va = keywords.pop("va", VA)
    memory = build_path(PLAIN, va, level, IPA, TABLES, attributes=attributes, limits=limits)
    regime = PLAIN.regime(False, TABLE)
    regime = replace(regime, tcr_el1=regime.tcr_el1 | tcr, **keywords)
    return walk(regime, va, memory.read, **arguments)


def fault(found: WalkOutput | WalkFailure) -> tuple[Stage1Fault, int | None]:
    assert isinstance(found, WalkFailure), found
    return found.fault, found.level


NO_EL0, READ_ONLY, UXN_TABLE, PXN_TABLE = 1 << 61, 1 << 62, 1 << 60, 1 << 59


@pytest.mark.parametrize(
    ("attributes", "limits", "el1", "el0"),
    [
        (0, 0, "rwx", "--x"),
        (AP_EL0, 0, "rw-", "rwx"),
        (AP_RO, 0, "r-x", "--x"),
        (AP_RO | AP_EL0, 0, "r-x", "r-x"),
        (PXN, 0, "rw-", "--x"),
        (UXN, 0, "rwx", "---"),
        (UXN | PXN | AP_EL0 | AP_RO, 0, "r--", "r--"),
        (DBM | AP_RO, 0, "r-x", "--x"),
        (AP_EL0, NO_EL0, "rwx", "--x"),
        (AP_EL0, READ_ONLY, "r-x", "r-x"),
        (AP_EL0, READ_ONLY | NO_EL0, "r-x", "--x"),
        (0, UXN_TABLE, "rwx", "---"),
        (0, PXN_TABLE, "rw-", "--x"),
    ],
)
def test_direct_permissions(attributes: int, limits: int, el1: str, el0: str) -> None:
    found = walk_to_page(AF | attributes, limits)
    assert isinstance(found, WalkOutput)
    assert (str(found.permissions.el1), str(found.permissions.el0)) == (el1, el0)


HD, HPD0, WXN = 0b11 << 39, 1 << 41, 1 << 19 | 1


@pytest.mark.parametrize(
    ("attributes", "limits", "registers", "el1", "el0"),
    [
        (DBM | AP_RO | AP_EL0, 0, {"tcr": HD}, "rw-", "rwx"),
        (DBM | AP_RO, READ_ONLY, {"tcr": HD}, "r-x", "--x"),
        (AP_EL0, READ_ONLY | NO_EL0 | UXN_TABLE, {"tcr": HPD0}, "rw-", "rwx"),
        (0, 0, {"sctlr_el1": WXN}, "rw-", "--x"),
        (AP_EL0, 0, {"sctlr_el1": WXN}, "rw-", "rw-"),
    ],
)
def test_registers_change_permissions(
    attributes: int, limits: int, registers: dict[str, int], el1: str, el0: str
) -> None:
    found = walk_to_page(AF | attributes, limits, **registers)
    assert isinstance(found, WalkOutput)
    assert (str(found.permissions.el1), str(found.permissions.el0)) == (el1, el0)


PIE = {"tcr2_el1": 0b10, "pir_el1": 0xFEDC_BA98_7654_3210, "pire0_el1": 0xFEDC_BA98_7654_3210}
INDIRECT = (
    *("---", "r--", "--x", "r-x", "---", "rw-", "rw-", "rwx"),
    *("r--", "r--", "r-x", "---", "rw-", "---", "rwx", "---"),
)


@pytest.mark.parametrize(("index", "expected"), list(enumerate(INDIRECT)))
def test_indirect_permissions(index: int, expected: str) -> None:
    """Check each PIIndex (UXN:PXN:DBM:AP[1]); table limits do not apply."""
    placed = (index >> 3) << 54 | (index >> 2 & 1) << 53 | (index >> 1 & 1) << 51 | (index & 1) << 6
    found = walk_to_page(AF | placed, READ_ONLY | NO_EL0, **PIE)
    assert isinstance(found, WalkOutput)
    assert str(found.permissions.el1) == str(found.permissions.el0) == expected


@pytest.mark.parametrize(("tcr", "el1"), [(0, "r--"), (HD, "rw-")])
def test_a_clean_page_with_indirect_permissions(tcr: int, el1: str) -> None:
    found = walk_to_page(AF | AP_RO | PXN | AP_EL0, tcr=tcr, **PIE)
    assert isinstance(found, WalkOutput)
    assert str(found.permissions.el1) == el1


R, W, X = Permission.READ, Permission.WRITE, Permission.EXECUTE


@pytest.mark.parametrize(
    ("attributes", "keywords", "allowed"),
    [
        (AP_RO, {"need": R}, True),
        (AP_RO, {"need": W}, False),
        (AP_RO, {"need": R | W}, False),
        (0, {"need": R, "el0": True}, False),
        (AP_EL0, {"need": W, "el0": True}, True),
        (PXN, {"need": X}, False),
        (UXN, {"need": X, "el0": True}, False),
    ],
)
def test_needed_permissions_are_checked(
    attributes: int, keywords: dict[str, Any], allowed: bool
) -> None:
    found = walk_to_page(AF | attributes, **keywords)
    if allowed:
        assert isinstance(found, WalkOutput)
    else:
        assert fault(found) == (Stage1Fault.PERMISSION, 3)


TAG = 0xA5 << 56


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({"va": VA | 1 << 48}, (Stage1Fault.TRANSLATION, 0)),
        ({"va": VA | 1 << 55}, (Stage1Fault.TRANSLATION, 0)),
        ({"va": VA | TAG}, (Stage1Fault.TRANSLATION, 0)),
        ({"va": VA | TAG, "tcr": 1 << 37 | 1 << 51, "need": X}, (Stage1Fault.TRANSLATION, 0)),
        ({"va": VA | TAG, "tcr": 1 << 38}, (Stage1Fault.TRANSLATION, 0)),
        ({"tcr": 1 << 7}, (Stage1Fault.TRANSLATION, 0)),
        ({"tcr": 1 << 55, "el0": True}, (Stage1Fault.TRANSLATION, 0)),
        ({"attributes": 0}, (Stage1Fault.ACCESS_FLAG, 3)),
        ({"attributes": 0, "level": 2}, (Stage1Fault.ACCESS_FLAG, 2)),
        ({"level": 0}, (Stage1Fault.TRANSLATION, 0)),
        ({"ttbr0_el1": 1 << 47, "id_aa64mmfr0_el1": 2}, (Stage1Fault.ADDRESS_SIZE, 0)),
        ({"ttbr0_el1": TABLE | 0xF << 48}, (Stage1Fault.ACCESS_FLAG, 3)),
        ({"attributes": AF | 1 << 47, "id_aa64mmfr0_el1": 2}, (Stage1Fault.ADDRESS_SIZE, 3)),
        ({"limits": 1 << 46, "id_aa64mmfr0_el1": 4}, (Stage1Fault.ADDRESS_SIZE, 0)),
        ({"tcr": 0b11 << 14}, (Stage1Fault.UNSUPPORTED, None)),
        ({"tcr": 63}, (Stage1Fault.UNSUPPORTED, None)),
        ({"tcr2_el1": 1 << 5}, (Stage1Fault.UNSUPPORTED, None)),
        ({"tcr2_el1": 1 << 4}, (Stage1Fault.UNSUPPORTED, None)),
    ],
)
def test_faults(keywords: dict[str, Any], expected: tuple[Stage1Fault, int | None]) -> None:
    if expected == (Stage1Fault.ACCESS_FLAG, 3):
        keywords = {"attributes": 0} | keywords  # TTBR bits above 47 are an ASID
    assert fault(walk_to_page(**keywords)) == expected


@pytest.mark.parametrize(
    "keywords",
    [
        {"va": VA | TAG, "tcr": 1 << 37},
        {"va": VA | TAG, "tcr": 1 << 37 | 1 << 51, "need": R},
        {"attributes": 0, "tcr": 1 << 39},
        {"tcr": 1 << 55},
    ],
)
def test_accepted(keywords: dict[str, Any]) -> None:
    found = walk_to_page(**keywords)
    assert isinstance(found, WalkOutput)
    assert found.ipa == IPA | VA & 0xFFF


@pytest.mark.parametrize(("physical", "granted"), [(5, False), (6, True)])
def test_blocks_of_4_tib_need_52_bits(physical: int, granted: bool) -> None:
    geometry = Geometry(16, 48, "LPA")
    memory = build_path(geometry, VA, 1, 0, TABLES)
    regime = geometry.regime(False, TABLE, id_aa64mmfr0_el1=physical)
    assert isinstance(walk(regime, VA, memory.read), WalkOutput) == granted


def test_ds_is_ignored_without_lpa2() -> None:
    memory = build_path(PLAIN, VA, 3, IPA, TABLES, attributes=AF | 0b11 << 8)
    regime = PLAIN.regime(False, TABLE, id_aa64mmfr0_el1=6)
    found = walk(replace(regime, tcr_el1=regime.tcr_el1 | 1 << 59), VA, memory.read)
    assert isinstance(found, WalkOutput)
    assert found.ipa == IPA | VA & 0xFFF


def test_big_endian_tables() -> None:
    memory = build_path(PLAIN, VA, 3, IPA, TABLES)
    memory.order = "big"
    assert isinstance(
        walk(PLAIN.regime(False, TABLE, sctlr_el1=1 | 1 << 25), VA, memory.read), WalkOutput
    )


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_a_table_that_points_to_itself_ends_at_the_last_level(geometry: Geometry) -> None:
    """Each entry points to its own table, so the walk maps the table as a page."""
    table = 1 << 30
    word = (table | AF | 0b11).to_bytes(8, "little")
    found = walk(geometry.regime(False, table), 0, lambda ipa, size: word)
    assert isinstance(found, WalkOutput)
    assert (found.ipa, found.level) == (table, 3)


@pytest.mark.parametrize(
    ("va", "registers", "need", "expected"),
    [
        (0x8000_0123, {}, R, "Device-nGnRnE"),
        (0x8000_0123, {}, X, "Normal-NC"),
        (0x8000_0123, {"sctlr_el1": 1 << 12}, X, "Normal-WT"),
        (0x8000_0123 | TAG, {"tcr_el1": 1 << 37}, R, "Device-nGnRnE"),
        (0x8000_0123 | TAG, {}, R, Stage1Fault.ADDRESS_SIZE),
        (1 << 48, {}, R, Stage1Fault.ADDRESS_SIZE),
    ],
)
def test_mmu_off(va: int, registers: dict[str, int], need: Permission, expected: str) -> None:
    regime = PLAIN.regime(False, 0, **({"sctlr_el1": 0, "tcr_el1": 0} | registers))
    found = walk(regime, va, Memory().read, need=need)
    if isinstance(found, WalkFailure):
        assert found.fault == expected
    else:
        assert (found.ipa, found.level, found.memory_type) == (0x8000_0123, None, expected)
