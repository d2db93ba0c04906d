# SPDX-License-Identifier: GPL-2.0-only
"""The regime, made from a vCPU's registers by name."""

import pytest

from pyvmm.arch.arm64.regime import Regime

REGISTERS = {
    name: n
    for n, name in enumerate(
        ("SCTLR_EL1", "TCR_EL1", "TTBR0_EL1", "TTBR1_EL1", "MAIR_EL1", "ID_AA64MMFR0_EL1")
    )
}


def test_an_extension_that_the_cpu_lacks_is_off() -> None:
    regime = Regime.of(REGISTERS)
    assert (regime.sctlr_el1, regime.id_aa64mmfr0_el1, regime.tcr2_el1) == (0, 5, 0)


def test_an_extension_that_the_cpu_has_is_read() -> None:
    assert Regime.of(REGISTERS | {"TCR2_EL1": 2, "X": 3}).indirect_permissions


@pytest.mark.parametrize("name", REGISTERS)
def test_any_other_register_is_needed(name: str) -> None:
    fewer = {other: value for other, value in REGISTERS.items() if other != name}
    with pytest.raises(KeyError, match=name):
        Regime.of(fewer)
