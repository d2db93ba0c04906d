# SPDX-License-Identifier: GPL-2.0-only
"""The encodings of system registers, compared with GNU as."""

import struct
from pathlib import Path

import pytest

from pyvmm.arch.arm64.sysregs import SYSREGS
from pyvmm.errors import LackingError
from pyvmm.guest.assemble import assemble

# Registers of Armv8.9, which binutils in Debian 12 do not know.
NEW = {"SCTLR2_EL1", "TCR2_EL1", "MAIR2_EL1", "PIRE0_EL1", "PIR_EL1", "POR_EL1", "POR_EL0",
       "ID_AA64PFR2_EL1", "ID_AA64ISAR3_EL1", "ID_AA64FPFR0_EL1", "ID_AA64MMFR3_EL1",
       "ID_AA64MMFR4_EL1"}  # fmt: skip
# KVM swaps the ids of these two.
SWAPPED = {"CNTV_CVAL_EL0", "CNTVCT_EL0"}


def test_encodings_match_the_assembler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = [name for name in SYSREGS if name not in NEW | SWAPPED]
    source = tmp_path / "mrs.s"
    source.write_text(
        "\t.arch armv9-a+sme\n" + "".join(f"\tmrs x0, {name.lower()}\n" for name in names)
    )
    try:
        code = assemble(source, "arm64")
    except LackingError as error:
        pytest.skip(str(error))
    words = [word for (word,) in struct.iter_unpack("<I", code)]
    assert dict(zip(names, map(encoding, words), strict=True)) == {n: SYSREGS[n] for n in names}


def encoding(mrs: int) -> tuple[int, ...]:
    """Return op0, op1, CRn, CRm and op2 of an MRS instruction (Arm ARM C6.2.MRS)."""
    return (2 + (mrs >> 19 & 1), mrs >> 16 & 7, mrs >> 12 & 15, mrs >> 8 & 15, mrs >> 5 & 7)


def test_encodings_are_unique() -> None:
    assert len(set(SYSREGS.values())) == len(SYSREGS)
