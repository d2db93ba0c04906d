# SPDX-License-Identifier: GPL-2.0-only
"""Slots of two address spaces, which only x86 with SMM has."""

from pyvmm.kvm.slot_index import SlotIndex
from pyvmm.why import Slot

SMM = 1 << 16
LOW, HIGH = Slot(0, 0, 0x4000, 0x1000), Slot(1, 0x8000, 0x4000, 0x5000)
SMRAM = Slot(SMM, 0, 0x1000, 0x9000)


def index(*slots: Slot) -> SlotIndex[Slot]:
    found: SlotIndex[Slot] = SlotIndex()
    for slot in slots:
        found.add(slot)
    return found


def test_a_gpa_is_looked_up_in_address_space_0() -> None:
    slots = index(LOW, SMRAM, HIGH)
    assert [slots.at(gpa) for gpa in (0, 0x3FFF, 0x4000, 0x8000)] == [LOW, LOW, None, HIGH]
    assert index(SMRAM).at(0) is None


def test_a_removed_slot_does_not_take_one_of_another_space_with_it() -> None:
    slots = index(LOW, SMRAM)
    slots.remove(LOW.number)
    assert (slots.at(0), list(slots), len(slots)) == (None, [SMRAM], 1)


def test_a_slot_replaces_the_one_with_its_number() -> None:
    moved = Slot(0, 0x20000, 0x4000, 0x1000)
    slots = index(LOW, HIGH, moved)
    assert list(slots) == [HIGH, moved]
    assert slots.numbered(0) is moved


def test_iteration_allows_changes() -> None:
    slots = index(HIGH, LOW)
    for slot in slots:
        slots.remove(slot.number)
    assert not len(slots)
    slots.remove(0)
