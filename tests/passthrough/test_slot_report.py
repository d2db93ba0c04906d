# SPDX-License-Identifier: GPL-2.0-only
from pyvmm.kvm import Vm
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.passthrough.slot_report import report_slots


def test_memory_is_write_back(vm: Vm) -> None:
    with Mapping.anonymous(2 * PAGE_SIZE) as memory:
        for gpa in (0x8000_0000, 0x4000_0000):
            vm.memslots.add(gpa, memory)
        first, second = report_slots(vm)
    assert (first.slot, first.gpa, first.size) == (1, 0x4000_0000, 2 * PAGE_SIZE)
    assert second.slot == 0
    assert first.mark == "known"
    assert first.stage2 in ("Normal-WB in stage 2", "memory, write-back")


def test_slot_without_a_mapping_is_left_out(vm: Vm) -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        vm.memslots.add(0x4000_0000, memory)
        memory.unmap()
        assert report_slots(vm) == ()
