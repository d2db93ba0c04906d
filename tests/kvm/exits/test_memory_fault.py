# SPDX-License-Identifier: GPL-2.0-only
"""Accesses of a real guest that KVM fails to resolve."""

import errno

import pytest

from pyvmm.guest.probe import Probe
from pyvmm.kvm.exits import RunFailure
from pyvmm.machine import Machine
from pyvmm.memory import PAGE_SIZE, Mapping
from tests.kvm.conftest import Touch
from tests.kvm.gpas import MEMORY_GPA


@pytest.mark.needs_arch("aarch64")  # x86 with shadow paging: an MMIO exit
def test_unmapped_memory_is_a_bare_efault(machine: Machine, touch: Touch) -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        machine.vm.memslots.add(MEMORY_GPA, memory)
        memory.unmap()
        outcome, _ = touch(Probe(MEMORY_GPA))
    assert outcome.last_exit == RunFailure(errno.EFAULT)
