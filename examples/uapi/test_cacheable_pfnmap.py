# SPDX-License-Identifier: GPL-2.0-only
"""Test a capability: which fd answers it, and which CPUs have it."""

import errno

import pytest

from pyvmm.caps import CapsReport
from pyvmm.kvm import System, Vm
from pyvmm.testing import fails
from pyvmm.uapi.kvm import KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED as CAP

pytestmark = pytest.mark.needs_arch("aarch64")


def test_only_a_vm_answers(kvm: System) -> None:
    with fails(errno.EINVAL):
        kvm.check(CAP)


def test_it_needs_fwb_and_dic(vm: Vm, caps: CapsReport) -> None:
    assert vm.check(CAP) == (caps.cpu.fwb and caps.cpu.dic)
