# SPDX-License-Identifier: GPL-2.0-only
"""Accesses taken to IPAs, page by page."""

import pytest

from pyvmm.arch.arm64.a64.access import Access, Kind
from pyvmm.arch.arm64.locate import locate
from pyvmm.arch.arm64.regime import Regime
from pyvmm.arch.arm64.walk import Fault, Translation

EL0, EL1H, PAN, UAO = 0b0000, 0b0101, 1 << 22, 1 << 23

# One table of 4 KiB pages for 21-bit addresses: pages 0 and 1 are apart, 2 is read-only for EL1,
# 3 is there for EL0 too and never executed by EL1, 4 is not mapped.
AF, EL0_TOO, READ_ONLY, PXN = 1 << 10, 1 << 6, 1 << 7, 1 << 53
TABLE = 0x1_0000
PAGES = {
    0: 0x80_0000 | AF | 0b11,
    1: 0x40_0000 | AF | 0b11,
    2: 0x50_0000 | AF | READ_ONLY | 0b11,
    3: 0x60_0000 | AF | EL0_TOO | PXN | 0b11,
}
REGIME = Regime.of(
    {
        "SCTLR_EL1": 1,
        "TCR_EL1": 64 - 21 | 1 << 23 | 5 << 32,
        "TTBR0_EL1": TABLE,
        "TTBR1_EL1": 0,
        "MAIR_EL1": 0xFF,
        "ID_AA64MMFR0_EL1": 5,
    }
)


def read(ipa: int, size: int) -> bytes | None:
    return PAGES.get((ipa - TABLE) // 8, 0).to_bytes(size, "little")


def test_each_page_of_an_access_has_its_own_ipa() -> None:
    found = locate(Access(0xFFC, 8, Kind.READ), REGIME, EL1H, read)
    assert [located.access.va for located in found] == [0xFFC, 0x1000]
    ipas = [part.found.ipa for part in found if isinstance(part.found, Translation)]
    assert ipas == [0x80_0FFC, 0x40_0000]


def test_the_page_that_failed_is_told_from_the_one_that_did_not() -> None:
    first, second = locate(Access(0x3FFF, 2, Kind.WRITE), REGIME, EL1H, read)
    assert isinstance(first.found, Translation)
    assert not isinstance(second.found, Translation)
    assert second.found.fault is Fault.TRANSLATION


@pytest.mark.parametrize(
    ("access", "pstate", "allowed"),
    [
        (Access(0x2000, 8, Kind.READ), EL1H, True),
        (Access(0x2000, 8, Kind.WRITE), EL1H, False),
        (Access(0x2000, 64, Kind.MAINTENANCE), EL1H, True),
        (Access(0x0000, 8, Kind.READ), EL0, False),
        (Access(0x3000, 8, Kind.READ), EL0, True),
        (Access(0x3000, 8, Kind.READ), EL1H | PAN, False),
        (Access(0x3000, 4, Kind.FETCH), EL1H, False),
        (Access(0x3000, 8, Kind.READ, unprivileged=True), EL1H | PAN, True),
        (Access(0x0000, 8, Kind.READ, unprivileged=True), EL1H, False),
        (Access(0x0000, 8, Kind.READ, unprivileged=True), EL1H | UAO, True),
    ],
)
def test_permissions_are_those_of_the_access(access: Access, pstate: int, allowed: bool) -> None:
    [located] = locate(access, REGIME, pstate, read)
    assert isinstance(located.found, Translation) == allowed
