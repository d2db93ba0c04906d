# SPDX-License-Identifier: GPL-2.0-only
"""Memslots as facts, and facts that nobody provided."""

from collections.abc import Callable

import pytest

from pyvmm.memory import PAGE_SIZE
from pyvmm.uapi.kvm import KVM_MEM_READONLY
from pyvmm.why.slot import Absent, Slot, UndescribedMemfd, need

GPA, SIZE = 0x4000_0000, 4 * PAGE_SIZE
UNDESCRIBED = UndescribedMemfd()


def test_an_absent_fact_names_itself() -> None:
    assert need(0, "the GPA accessed") == 0
    with pytest.raises(Absent, match="the GPA accessed"):
        need(None, "the GPA accessed")


@pytest.mark.parametrize(
    ("read", "fact"),
    [
        (lambda: UNDESCRIBED.size, "the guest_memfd's size"),
        (lambda: UNDESCRIBED.flags, "the flags of KVM_CREATE_GUEST_MEMFD"),
        (lambda: UNDESCRIBED.owner, "the VM that created the guest_memfd"),
        (lambda: UNDESCRIBED.closed, "whether the guest_memfd was closed"),
        (lambda: UNDESCRIBED == None, "which file the guest_memfd descriptor refers to"),  # noqa: E711
    ],
)
def test_reading_an_undescribed_guest_memfd(read: Callable[[], object], fact: str) -> None:
    with pytest.raises(Absent) as absent:
        read()
    assert str(absent.value) == fact


def test_slot() -> None:
    slot = Slot(1, GPA, SIZE, 0x7000_0000, KVM_MEM_READONLY)
    assert (slot.end, slot.readonly) == (GPA + SIZE, True)
    assert slot.hva_of(GPA + 5) == 0x7000_0005
    assert slot.overlaps_hva(0x7000_0000 + SIZE - 1, 1)
    assert not slot.overlaps_hva(0x7000_0000 + SIZE, 1)
    assert not slot.overlaps_hva(0x7000_0000 - 1, 1)
