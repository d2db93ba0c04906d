# SPDX-License-Identifier: GPL-2.0-only
"""Accesses that KVM cannot resolve, by a real guest."""

import errno

import pytest

from pyvmm.guest.probe import Probe
from pyvmm.kvm.exits import RunFailure
from pyvmm.machine import Machine
from pyvmm.memory import PAGE_SIZE, Mapping
from tests.kvm.conftest import Touch
from tests.kvm.places import MEMORY_GPA


@pytest.mark.needs_arch("aarch64")  # on x86-64 it is an MMIO exit where KVM pages by itself
def test_memory_that_is_gone_is_a_bare_efault(machine: Machine, touch: Touch) -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        machine.vm.memslots.add(MEMORY_GPA, memory)
        memory.unmap()
        outcome, _ = touch(Probe(MEMORY_GPA))
    assert outcome.last_exit == RunFailure(errno.EFAULT)
