# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from pyvmm.kvm import Vm
from pyvmm.kvm.gpa_width import gpa_bits, max_physical_bits
from pyvmm.kvm.memslots import MemslotError
from pyvmm.memory import PAGE_SIZE, Mapping

pytestmark = pytest.mark.needs_arch("x86_64")


def test_kernel_has_the_same_limit(vm: Vm) -> None:
    bits = gpa_bits()
    assert bits
    end = 1 << bits
    with Mapping.anonymous(PAGE_SIZE) as memory:
        assert vm.memslots.add(end - PAGE_SIZE, memory).end == end
        with pytest.raises(MemslotError, match=f"beyond the {bits} bits"):
            vm.memslots.add(end, memory)


def test_the_cpu_has_at_least_the_bits_that_memory_encryption_leaves() -> None:
    [cpuinfo] = {
        int(line.split()[3])
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("address sizes")
    }
    found = max_physical_bits()
    assert found
    assert cpuinfo <= found <= 52
