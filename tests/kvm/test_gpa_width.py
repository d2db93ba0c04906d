# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.kvm import Vm
from pyvmm.kvm.gpa_width import gpa_bits
from pyvmm.kvm.memslots import MemslotError
from pyvmm.memory import PAGE_SIZE, Mapping

pytestmark = pytest.mark.needs_arch("x86_64")


def test_kernel_has_the_same_limit(vm: Vm) -> None:
    end = 1 << gpa_bits()
    with Mapping.anonymous(PAGE_SIZE) as memory:
        assert vm.memslots.add(end - PAGE_SIZE, memory).end == end
        with pytest.raises(MemslotError, match=f"beyond the {gpa_bits()} bits"):
            vm.memslots.add(end, memory)
