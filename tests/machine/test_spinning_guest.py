# SPDX-License-Identifier: GPL-2.0-only
"""A guest that stays until it is told to go, and its real stage-2 tables, read from outside."""

import pytest

from pyvmm.arch.page_tables import identity
from pyvmm.errors import LackingError, PyvmmError
from pyvmm.kvm import System
from pyvmm.lab import stage2_client
from pyvmm.lab.stage2 import Stage2Entry
from pyvmm.machine import ENTRY, Machine
from pyvmm.machine.spinning_guest import spinning_guest


def test_it_can_be_had_again(kvm: System) -> None:
    with Machine(kvm) as machine:
        for _ in range(2):
            with spinning_guest(machine, ENTRY):
                pass


def test_a_guest_that_cannot_stay(kvm: System) -> None:
    nowhere = 0x6000_0000  # no memslot, no device
    with Machine(kvm) as machine:
        machine.windows.append(identity(nowhere, 0x1000))
        with pytest.raises(PyvmmError, match="the guest came to"), spinning_guest(machine, nowhere):
            pass


def stage2(ipa: int) -> Stage2Entry:
    try:
        return stage2_client.query_stage2(ipa)
    except LackingError as error:
        pytest.skip(str(error))


@pytest.mark.needs_arch("aarch64")
def test_ram_is_cacheable_in_stage_2(kvm: System) -> None:
    with Machine(kvm) as machine, spinning_guest(machine, ENTRY):
        assert stage2(ENTRY).memory_type == "Normal-WB"
        assert stage2(1 << 39).memory_type == "unmapped"


@pytest.mark.needs_arch("aarch64")
def test_an_ipa_that_the_vm_has_no_room_for(kvm: System) -> None:
    with Machine(kvm) as machine, spinning_guest(machine, ENTRY):
        with pytest.raises(PyvmmError, match="exceeds the"):
            stage2(1 << 52)


@pytest.mark.needs_arch("aarch64")
def test_the_tables_are_those_of_the_vm_that_runs(kvm: System) -> None:
    with Machine(kvm) as one, Machine(kvm) as other:
        found = set()
        for machine in (one, other):
            with spinning_guest(machine, ENTRY):
                found.add(stage2(ENTRY).pa)
    assert len(found) == 2


@pytest.mark.needs_arch("x86_64")
def test_outside_the_lab_stage_2_cannot_be_read() -> None:
    with pytest.raises(LackingError, match="only in the lab"):
        stage2_client.query_stage2(ENTRY)
