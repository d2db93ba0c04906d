# SPDX-License-Identifier: GPL-2.0-only
"""Test a memslot rule: a read-only slot is read without an exit, and a write exits as MMIO."""

import pytest

from pyvmm.kvm import Vm
from pyvmm.memory import Mapping
from pyvmm.testing import Mmio, SystemOff
from pyvmm.testing.guest import Guest

GPA = 0x8000_0000
LOAD_AND_STORE = {
    "arm64": "ldr w4, [x0]; str w4, [x0, #8]",
    "x86_64": "mov (%rdi), %ebx; mov %ebx, 8(%rdi)",
}


@pytest.mark.needs_cap("KVM_CAP_READONLY_MEM")
def test_a_readonly_memslot(vm: Vm, guest: Guest) -> None:
    with Mapping.anonymous(0x4000) as memory:
        memory.write(0, (7).to_bytes(4, "little"))
        vm.memslots.add(GPA, memory, readonly=True)
        store = Mmio(gpa=GPA + 8, size=4, write=True, value=7)
        guest(LOAD_AND_STORE, GPA).expects(store, SystemOff())
