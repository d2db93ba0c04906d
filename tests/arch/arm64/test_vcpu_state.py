# SPDX-License-Identifier: GPL-2.0-only
"""The stage-1 translation of a stopped vCPU."""

import pytest

from pyvmm.arch.arm64.stage1 import build_page_tables
from pyvmm.arch.arm64.vcpu_state import StoppedVcpu
from pyvmm.arch.arm64.walk import Stage1Fault, WalkFailure, WalkOutput
from pyvmm.arch.page_tables import identity
from tests.arch.arm64.stopped import Memory, stopped_vcpu

EL0, EL1H = 0b0000, 0b0101
PAGE, TABLES = 0x1000, 0x4000


def vcpu_with_page(*, executable: bool = False, pstate: int = EL1H) -> StoppedVcpu:
    """Map one page, read-only for EL1 and without permissions for EL0."""
    tables = build_page_tables(
        TABLES, [identity(PAGE, 0x1000, writable=False, executable=executable)]
    )
    memory = Memory()
    memory.write(TABLES, tables.image)
    pa_48_bits = {"ID_AA64MMFR0_EL1": 5}
    return stopped_vcpu({**tables.registers, **pa_48_bits, "pc": PAGE, "pstate": pstate}, memory)


def test_a_fetch_needs_execute_permission() -> None:
    found = vcpu_with_page().translate_pc()
    assert isinstance(found, WalkFailure)
    assert found.fault is Stage1Fault.PERMISSION


def test_an_executable_page_is_fetched() -> None:
    found = vcpu_with_page(executable=True).translate_pc()
    assert isinstance(found, WalkOutput)
    assert found.ipa == PAGE


@pytest.mark.parametrize("pstate", [EL0, EL1H])
def test_a_data_access_needs_no_permission(pstate: int) -> None:
    assert isinstance(vcpu_with_page(pstate=pstate).translate(PAGE), WalkOutput)
