# SPDX-License-Identifier: GPL-2.0-only
"""Decoding: assembled instructions against their accesses and register changes."""

from pathlib import Path
from struct import iter_unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.arch.arm64.a64.decode import decode
from pyvmm.arch.arm64.a64.execute import execute
from pyvmm.arch.arm64.a64.operation import (
    NoAccess,
    Transfer,
    Undecodable,
)
from pyvmm.guest.assemble import assemble

DATA, STACK, PC = 0x10000, 0x20000, 0x8000
REGISTERS = {
    **{f"x{n}": n * 0x1111 for n in range(31)},
    **{f"v{n}": n * 0x1111 for n in range(32)},
    "x1": DATA,
    "x2": 0x40,
    "x3": 2**64 - 8,
    "x4": 0x5_FFFF_FFF0,  # w4 is -16
    "sp_el1": STACK,
    "pc": PC,
    "pstate": 0b0101,
    "DCZID_EL0": 4,
    "CTR_EL0": 0x8444_C004,  # lines of 64 bytes
}

FORMS = Path(__file__).with_name("forms.txt").read_text()
ARCH = ".arch armv8.7-a+ls64+memtag+sve+mops\n"


def rows(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line and not line.startswith("#")]
    return [[cell.strip() for cell in line.split("|", 2)] for line in lines]


class Pattern:
    """Memory in which each byte depends on its address."""

    def read(self, va: int, size: int) -> bytes:
        return bytes(0x80 | at & 0x7F for at in range(va, va + size))

    def write(self, va: int, data: bytes) -> None:
        pass


SIZES = {"B": 1, "H": 2, "W": 4, "D": 8, "Q": 16}


def expression(text: str) -> int:
    """Return the value of an expression such as ``0x10`` or ``W4|D8<<64``."""
    total = 0
    for term in text.split("|"):
        part, _, shift = term.partition("<<")
        if part[0] in SIZES:
            stored = Pattern().read(int(part[1:], 16), SIZES[part[0]])
            number = int.from_bytes(stored, "little")
        else:
            number = int(part, 16)
        total |= number << int(shift or 0)
    return total


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Assemble every form in the tables; return the words by form."""
    lines = [form for table in (FORMS, EXCLUSIVES, OTHERS, UNDECODED) for form, *_ in rows(table)]
    source = tmp_path_factory.mktemp("forms") / "forms.s"
    source.write_text(ARCH + "".join(f"{line}\n" for line in lines))
    found = iter_unpack("<I", assemble(source, "arm64"))
    return dict(zip(lines, (word for (word,) in found), strict=True))


@pytest.mark.parametrize(("form", "accesses", "changes"), rows(FORMS))
def test_forms(form: str, accesses: str, changes: str, words: dict[str, int]) -> None:
    operation = decode(words[form])
    assert not isinstance(operation, NoAccess | Undecodable), operation
    found = [
        f"{access.kind} {access.size} {access.va:x}" for access in operation.accesses(REGISTERS)
    ]
    assert ", ".join(found) == accesses
    changed = execute(operation, REGISTERS, Pattern())
    assert changed.pop("pc") == PC + 4
    expected = dict(change.split("=") for change in changes.split())
    assert changed == {name: expression(text) for name, text in expected.items()}


def test_the_table_of_forms_is_complete() -> None:
    assert len(rows(FORMS)) >= 120


EXCLUSIVES = """
ldar x0, [x1]            | plain
stlr x0, [x1]            | plain
ldxr x0, [x1]            | exclusive
ldaxp x0, x2, [x1]       | exclusive
stxr w2, x0, [x1]        | exclusive
stlxp w2, x0, x3, [x1]   | exclusive
ldr x0, [x1]             | plain
"""


@pytest.mark.parametrize(("form", "exclusive"), rows(EXCLUSIVES))
def test_exclusives(form: str, exclusive: str, words: dict[str, int]) -> None:
    operation = decode(words[form])
    assert isinstance(operation, Transfer)
    assert operation.exclusive == (exclusive == "exclusive")


OTHERS = """
prfm pldl1keep, [x1]        | prefetch
prfm pldl1keep, [x1, x2]    | prefetch
prfum pldl1keep, [x1, #-1]  | prefetch
prfm pldl1keep, . + 8       | prefetch
add x0, x1, x2              | registers
fmadd d0, d1, d2, d3        | registers
movz x0, #5                 | immediate
b . + 8                     | a branch
ret                         | a branch
svc #0                      | a branch
mrs x0, ctr_el0             | system instruction
at s1e1r, x0                | without a virtual address
dc csw, x0                  | without a virtual address
ic iallu                    | without a virtual address
tlbi vae1, x0               | without a virtual address
add z0.d, z1.d, z2.d        | SVE
"""


@pytest.mark.parametrize(("form", "why"), rows(OTHERS))
def test_instructions_without_a_data_access(form: str, why: str, words: dict[str, int]) -> None:
    operation = decode(words[form])
    assert isinstance(operation, NoAccess)
    assert why in operation.why


UNDECODED = """
ldraa x0, [x1]              | authentication code
ldg x0, [x1]                | FEAT_MTE
stg x0, [x1], #16           | FEAT_MTE
stgp x0, x2, [x1]           | FEAT_MTE
dc gva, x0                  | FEAT_MTE
dc gzva, x0                 | FEAT_MTE
dc cigdvac, x0              | FEAT_MTE
st64bv x2, x4, [x1]         | ST64BV
.inst 0x19410440            | FEAT_MOPS
.inst 0x19c20420            | FEAT_MOPS
ld1d {z0.d}, p0/z, [x1]     | SVE
ldr z0, [x1]                | SVE
.inst 0xf8408421            | CONSTRAINED UNPREDICTABLE
.inst 0xa9400020            | CONSTRAINED UNPREDICTABLE: loads the same
.inst 0x88017c20            | CONSTRAINED UNPREDICTABLE: the status
.inst 0x00000000            | not an instruction
.inst 0xe1000000            | SME
"""


@pytest.mark.parametrize(("form", "why"), rows(UNDECODED))
def test_undecodable_instructions_have_a_reason(form: str, why: str, words: dict[str, int]) -> None:
    operation = decode(words[form])
    assert isinstance(operation, Undecodable)
    assert why in str(operation)


def check(word: int) -> None:
    """Check that a word decodes, and that an operation executes."""
    operation = decode(word)
    if isinstance(operation, NoAccess | Undecodable):
        assert operation.why
        return
    for access in operation.accesses(REGISTERS):
        assert 0 <= access.va < 2**64
        assert access.size in range(1, 65)
    changed = execute(operation, REGISTERS, Pattern())
    assert changed.keys() < REGISTERS.keys()
    assert all(
        value in range(2 ** (128 if name[0] == "v" else 64)) for name, value in changed.items()
    )


@given(st.integers(0, 2**32 - 1))
def test_any_word_decodes(word: int) -> None:
    check(word)


@given(st.integers(0, 2**32 - 1))
def test_any_load_or_store_decodes(word: int) -> None:
    """Loads and stores have x1x0 in bits 28:25; set them so that every word is one."""
    check(word & ~(1 << 25) | 1 << 27)
