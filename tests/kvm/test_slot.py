# SPDX-License-Identifier: GPL-2.0-only
"""A slot's ends, and the host's address behind each of the guest's."""

import pytest

from pyvmm.kvm.slot import Slot
from pyvmm.uapi.kvm import KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY


def test_where_it_is() -> None:
    slot = Slot(3, 0x10000, 0x2000, 0x7F0000)
    assert slot.end == 0x12000
    assert (slot.hva_of(0x10000), slot.hva_of(0x11FFF)) == (0x7F0000, 0x7F1FFF)


@pytest.mark.parametrize(
    ("flags", "readonly"),
    [(0, False), (KVM_MEM_LOG_DIRTY_PAGES, False), (KVM_MEM_READONLY, True), (3, True)],
)
def test_readonly(flags: int, readonly: bool) -> None:
    assert Slot(0, 0, 0x1000, 0x1000, flags).readonly is readonly
