# SPDX-License-Identifier: GPL-2.0-only
import os

import pytest

from pyvmm.errors import UsageError
from pyvmm.explain.host import Host
from pyvmm.explain.process import look
from pyvmm.explain.slots import Slots, ToldSlot
from pyvmm.kvm import System
from pyvmm.machine import ENTRY, RAM_BASE, Machine
from pyvmm.machine.spinning_guest import spinning_guest
from pyvmm.passthrough import AssignedDevice
from pyvmm.testing.needs import devices
from tests.process import as_nobody


def test_a_vmm_with_its_memslots(host: Host, kvm: System) -> None:
    with Machine(kvm) as machine:
        [slot] = machine.vm.memslots
        told = Slots((ToldSlot(slot.number, slot.gpa, slot.size, slot.hva),), known=True)
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
    with Machine(kvm) as machine, spinning_guest(machine, ENTRY):
        found = look(os.getpid(), host)
    if not found.stage2:
        pytest.skip("debugfs has no stage2_page_tables: CONFIG_PTDUMP_STAGE2_DEBUGFS, and root")
    mapped = [each for vm in found.stage2 for each in vm.mapped]
    assert any(start <= ENTRY < end for start, end in mapped)
    assert all(RAM_BASE <= start < end for start, end in mapped)


@pytest.mark.needs_arch("aarch64")
@pytest.mark.needs_device("grace")
def test_the_cacheable_bar_is_the_one_without_the_flag(host: Host, kvm: System) -> None:
    bdf = str(next(devices("grace")))
    with Machine(kvm) as machine, AssignedDevice(machine, host.report, bdf) as device:
        found = {p.size: p for p in look(os.getpid(), host).pieces if p.vma and p.vma.pfnmap}
        sizes = {bar.region.name: bar.region.size for bar in device.bars}
    whys = {name: found[size].findings[0].why for name, size in sizes.items()}
    assert "Normal-NC in stage 2, if" in whys["BAR2"]
    assert "by a driver of its own" in whys["BAR4"]
