# SPDX-License-Identifier: GPL-2.0-only
"""A spinning guest, and its stage-2 tables as the lab reads them."""

import pytest

from pyvmm.arch.page_tables import identity
from pyvmm.errors import LackingError, PyvmmError
from pyvmm.kvm import System
from pyvmm.lab import stage2_client
from pyvmm.lab.stage2 import Stage2Entry
from pyvmm.machine import ENTRY, Machine
from pyvmm.machine.spinning_guest import spinning_guest


def test_machine_can_be_reused(kvm: System) -> None:
    with Machine(kvm) as machine:
        for _ in range(2):
            with spinning_guest(machine, ENTRY):
                pass


def test_unmapped_gva_is_an_error(kvm: System) -> None:
    unmapped = 0x6000_0000  # no memslot, no device
    with Machine(kvm) as machine:
        machine.windows.append(identity(unmapped, 0x1000))
        with (
            pytest.raises(PyvmmError, match="the guest stopped with"),
            spinning_guest(machine, unmapped),
        ):
            pass


def stage2(ipa: int) -> Stage2Entry:
    try:
        return stage2_client.query_stage2(ipa)
    except LackingError as error:
        pytest.skip(str(error))


@pytest.mark.needs_arch("aarch64")
def test_stage_2_maps_ram_cacheable(kvm: System) -> None:
    with Machine(kvm) as machine, spinning_guest(machine, ENTRY):
        assert stage2(ENTRY).memory_type == "Normal-WB"
        assert stage2(1 << 39).memory_type == "unmapped"


@pytest.mark.needs_arch("aarch64")
def test_ipa_beyond_the_ipa_size(kvm: System) -> None:
    with Machine(kvm) as machine, spinning_guest(machine, ENTRY):
        with pytest.raises(PyvmmError, match="exceeds the"):
            stage2(1 << 52)


@pytest.mark.needs_arch("aarch64")
def test_stage_2_is_that_of_the_running_vm(kvm: System) -> None:
    with Machine(kvm) as one, Machine(kvm) as other:
        found = set()
        for machine in (one, other):
            with spinning_guest(machine, ENTRY):
                found.add(stage2(ENTRY).pa)
    assert len(found) == 2


@pytest.mark.needs_arch("x86_64")
def test_stage_2_cannot_be_read_outside_the_lab() -> None:
    with pytest.raises(LackingError, match="only in the lab"):
        stage2_client.query_stage2(ENTRY)
