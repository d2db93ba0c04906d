# SPDX-License-Identifier: GPL-2.0-only
import os

import pytest

from pyvmm.errors import UsageError
from pyvmm.explain.host import Host
from pyvmm.explain.process import look
from pyvmm.explain.slots import Slot, Slots
from pyvmm.kvm import System
from pyvmm.machine import ENTRY, RAM_BASE, Machine
from pyvmm.machine.lingering import lingering
from tests.process import as_nobody


def test_a_vmm_with_its_memslots(host: Host, kvm: System) -> None:
    with Machine(kvm) as machine:
        [slot] = machine.vm.memslots
        told = Slots((Slot(slot.number, slot.gpa, slot.size, slot.hva),), known=True)
        found = look(os.getpid(), host.having(told))
    assert found.descriptors["kvm-vm"] >= 1
    assert found.descriptors["kvm-vcpu"] >= 1
    assert found.slots_known
    assert {piece.slot for piece in found.pieces} == {0}
    assert sum(piece.size for piece in found.pieces) == slot.size


def test_without_them_memory_that_could_be_a_guests(host: Host, kvm: System) -> None:
    with Machine(kvm, ram_size=32 << 20) as machine:
        found = look(os.getpid(), host)
        ram = machine.ram.hva
    assert not found.slots_known
    assert any(p.hva <= ram < p.hva + p.size and p.slot is None for p in found.pieces)


def test_no_such_process(host: Host) -> None:
    with pytest.raises(UsageError, match="there is no process 4194305"):
        look(4194305, host)


def test_a_process_that_is_not_ours(host: Host) -> None:
    ours = os.getpid()

    def say() -> str:
        try:
            look(ours, host)
        except Exception as error:
            return str(error)
        return "seen"

    assert as_nobody(say) == f"process {ours} is not ours to look at: be its user, or root"


@pytest.mark.needs_arch("aarch64")
def test_what_is_mapped_in_stage_2(host: Host, kvm: System) -> None:
    with Machine(kvm) as machine, lingering(machine, ENTRY):
        found = look(os.getpid(), host)
    assert found.stage2
    assert any(start <= ENTRY < end for start, end in found.stage2.mapped)
    assert all(start >= RAM_BASE for start, _ in found.stage2.mapped)
