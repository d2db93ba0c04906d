# SPDX-License-Identifier: GPL-2.0-only
from collections.abc import Iterator

import pytest

from pyvmm.guest.probe import Op, Probe, ProbeOutcome
from pyvmm.kvm import Memslot, System, Vm
from pyvmm.kvm.exits import Mmio
from pyvmm.kvm.memslots import MemslotError
from pyvmm.machine import Machine
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.uapi.kvm import KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2
from tests.kvm.conftest import Touch
from tests.kvm.gpas import MEMORY_GPA

PAGES = 8


@pytest.fixture
def memory() -> Iterator[Mapping]:
    with Mapping.anonymous(PAGES * PAGE_SIZE) as memory:
        yield memory


def test_a_slot_says_what_it_is(vm: Vm, memory: Mapping) -> None:
    slot = vm.memslots.add(MEMORY_GPA, memory, at=PAGE_SIZE, readonly=True)
    assert slot.number == 0
    assert slot.size == (PAGES - 1) * PAGE_SIZE
    assert slot.end == MEMORY_GPA + slot.size
    assert slot.hva_of(MEMORY_GPA + 5) == memory.hva + PAGE_SIZE + 5
    assert slot.readonly


def test_numbers_are_the_first_that_are_free(vm: Vm, memory: Mapping) -> None:
    slots = [vm.memslots.add(n * memory.size, memory) for n in range(3)]
    assert [slot.number for slot in slots] == [0, 1, 2]
    vm.memslots.remove(slots[1])
    assert vm.memslots.add(memory.size, memory).number == 1
    assert vm.memslots.add(3 * memory.size, memory).number == 3


def test_a_guest_finds_the_memory(machine: Machine, touch: Touch, memory: Mapping) -> None:
    memory.write(PAGE_SIZE, b"\x11\x22\x33\x44")
    machine.vm.memslots.add(MEMORY_GPA, memory)
    where = MEMORY_GPA + PAGE_SIZE
    _, [read, _] = touch(Probe(where), Probe(where + 8, 2, Op.WRITE, 0xBEEF))
    assert read.value == 0x44332211
    assert memory.read(PAGE_SIZE + 8, 2) == b"\xef\xbe"


def test_a_removed_slot_leaves_mmio(machine: Machine, touch: Touch, memory: Mapping) -> None:
    slot = machine.vm.memslots.add(MEMORY_GPA, memory)
    touch(Probe(MEMORY_GPA))
    machine.vm.memslots.remove(slot)
    outcome, _ = touch(Probe(MEMORY_GPA))
    assert outcome.last_exit == Mmio(MEMORY_GPA, 4, False, 0)


def test_a_moved_slot_shows_the_same_memory(
    machine: Machine, touch: Touch, memory: Mapping
) -> None:
    memory.write(0, b"\x2a")
    slot = machine.vm.memslots.add(MEMORY_GPA, memory)
    touch(Probe(MEMORY_GPA, 1))
    moved = machine.vm.memslots.move(slot, MEMORY_GPA + memory.size)
    _, [answer] = touch(Probe(moved.gpa, 1))
    assert (answer.outcome, answer.value) == (ProbeOutcome.OK, 42)
    outcome, _ = touch(Probe(MEMORY_GPA, 1))
    assert outcome.last_exit == Mmio(MEMORY_GPA, 1, False, 0)


def test_replaced_memory_is_the_new(machine: Machine, touch: Touch, memory: Mapping) -> None:
    with Mapping.anonymous(memory.size) as other:
        other.write(0, b"\x2a")
        slot = machine.vm.memslots.add(MEMORY_GPA, memory)
        _, [before] = touch(Probe(MEMORY_GPA, 1))
        new = machine.vm.memslots.replace(slot, other)
        _, [after] = touch(Probe(MEMORY_GPA, 1))
    assert (before.value, after.value) == (0, 42)
    assert (new.number, new.gpa, new.size) == (slot.number, slot.gpa, slot.size)


def test_a_rejected_replacement_leaves_the_old(
    machine: Machine, touch: Touch, memory: Mapping
) -> None:
    memory.write(0, b"\x2a")
    slot = machine.vm.memslots.add(MEMORY_GPA, memory)
    with pytest.raises(MemslotError):
        machine.vm.memslots.replace(slot, memory, at=1)
    assert machine.vm.memslots.at(MEMORY_GPA) is slot
    _, [answer] = touch(Probe(MEMORY_GPA, 1))
    assert answer.value == 42


def test_a_write_to_a_read_only_slot_exits(machine: Machine, touch: Touch, memory: Mapping) -> None:
    memory.write(0, b"\x2a")
    machine.vm.memslots.add(MEMORY_GPA, memory, readonly=True)
    outcome, [read, _] = touch(Probe(MEMORY_GPA, 1), Probe(MEMORY_GPA, 2, Op.WRITE, 0xBEEF))
    assert read.value == 42
    assert outcome.last_exit == Mmio(MEMORY_GPA, 2, True, 0xBEEF)
    assert memory.read(0, 2) == b"\x2a\0"


def writes(*pages: int) -> list[Probe]:
    return [Probe(MEMORY_GPA + page * PAGE_SIZE, 4, Op.WRITE, 1) for page in pages]


def test_the_dirty_log_says_which_pages_a_guest_wrote(
    machine: Machine, touch: Touch, memory: Mapping
) -> None:
    slots = machine.vm.memslots
    slot = slots.add(MEMORY_GPA, memory, log_dirty=True)
    touch(*writes(1, 5), Probe(MEMORY_GPA + 3 * PAGE_SIZE))
    assert slots.dirty_pages(slot) == [1, 5]
    assert slots.dirty_pages(slot) == []
    touch(*writes(5, 7))
    assert slots.dirty_pages(slot) == [5, 7]


def test_dirty_pages_stay_until_cleared(machine: Machine, touch: Touch, memory: Mapping) -> None:
    machine.vm.enable(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 1)
    slots = machine.vm.memslots
    slot = slots.add(MEMORY_GPA, memory, log_dirty=True)
    touch(*writes(1, 5))
    assert slots.dirty_pages(slot) == [1, 5]
    slots.clear_dirty(slot, [1])
    assert slots.dirty_pages(slot) == [5]
    touch(*writes(1))
    assert slots.dirty_pages(slot) == [1, 5]


def test_the_dirty_log_of_many_pages(machine: Machine, touch: Touch) -> None:
    with Mapping.anonymous(130 * PAGE_SIZE) as memory:
        slot = machine.vm.memslots.add(MEMORY_GPA, memory, log_dirty=True)
        touch(*writes(0, 63, 64, 129))
        assert machine.vm.memslots.dirty_pages(slot) == [0, 63, 64, 129]


def test_logging_can_begin_later_and_end(machine: Machine, touch: Touch, memory: Mapping) -> None:
    slots = machine.vm.memslots
    slot = slots.add(MEMORY_GPA, memory)
    touch(*writes(1))
    logged = slots.log_dirty(slot, True)
    touch(*writes(2))
    assert slots.dirty_pages(logged) == [2]
    slots.log_dirty(logged, False)
    with pytest.raises(OSError, match="ENOENT"):
        slots.dirty_pages(logged)


@pytest.mark.parametrize("change", ["remove", "move", "log_dirty", "replace"])
def test_a_slot_that_has_changed_is_another(vm: Vm, memory: Mapping, change: str) -> None:
    stale = vm.memslots.add(0, memory)
    current = vm.memslots.move(stale, memory.size)
    arguments = {"remove": (), "move": (0,), "log_dirty": (True,), "replace": (memory,)}[change]
    with pytest.raises(ValueError, match="slot 0 at GPA 0x0 is not in the set"):
        getattr(vm.memslots, change)(stale, *arguments)
    assert list(vm.memslots) == [current]


@pytest.mark.parametrize("gpa", [-PAGE_SIZE, 1 << 64])
def test_a_gpa_is_64_bits(vm: Vm, memory: Mapping, gpa: int) -> None:
    with pytest.raises(ValueError, match="does not fit into 64 bits"):
        vm.memslots.add(gpa, memory)


def test_a_number_in_use_moves_that_slot(vm: Vm, memory: Mapping) -> None:
    vm.memslots.add(0, memory, number=7)
    moved = vm.memslots.add(memory.size, memory, number=7)
    assert list(vm.memslots) == [moved]


def test_a_slot_keeps_its_memory(kvm: System) -> None:
    with kvm.create_vm() as vm:
        slot = vm.memslots.add(0, Mapping.anonymous(PAGE_SIZE))
        assert slot.memory
        slot.memory.write(0, b"still mapped")


def test_the_last_number(vm: Vm, memory: Mapping) -> None:
    limit = vm.memslots.limit()
    assert vm.memslots.add(0, memory, number=limit - 1).number == limit - 1
    with pytest.raises(MemslotError, match=f"number slots from 0 to {limit - 1}"):
        vm.memslots.add(memory.size, memory, number=limit)


@pytest.mark.needs_arch("x86_64")  # takes minutes in the emulated host
def test_as_many_slots_as_the_kernel_takes(vm: Vm, memory: Mapping) -> None:
    limit = vm.memslots.limit()
    slots: list[Memslot] = [
        vm.memslots.add(2 * n * PAGE_SIZE, memory, size=PAGE_SIZE) for n in range(limit)
    ]
    assert len(vm.memslots) == limit
    assert vm.memslots.at(2 * (limit - 1) * PAGE_SIZE) is slots[-1]
    assert vm.memslots.at(2 * (limit - 1) * PAGE_SIZE - 1) is None
    with pytest.raises(MemslotError) as failure:
        vm.memslots.add(2 * limit * PAGE_SIZE, memory)
    assert failure.value.cause == "slot-number"
