# SPDX-License-Identifier: GPL-2.0-only
from pyvmm.pci.msix_pba import MsixPba


def test_a_bit_per_vector() -> None:
    pba = MsixPba(65, {0, 9, 64}.__contains__)
    assert pba.read(0, 8) == 1 | 1 << 9
    assert (pba.read(8, 4), pba.read(1, 1), pba.read(12, 4)) == (1, 2, 0)


def test_a_write_does_nothing() -> None:
    pba = MsixPba(1, {0}.__contains__)
    pba.write(0, 8, 0)
    assert pba.read(0, 4) == 1
