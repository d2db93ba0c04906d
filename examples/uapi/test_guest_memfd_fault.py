# SPDX-License-Identifier: GPL-2.0-only
"""Test a fault: an access to a closed guest_memfd is reported with its address."""

import errno

import pytest

from pyvmm.kvm import Vm
from pyvmm.testing import MemoryFault
from pyvmm.testing.guest import Guest
from pyvmm.uapi.kvm import GUEST_MEMFD_FLAG_INIT_SHARED, GUEST_MEMFD_FLAG_MMAP

GPA, SIZE, PAGE = 0x8000_0000, 0x4000, 0x1000


@pytest.mark.needs_arch("aarch64")
@pytest.mark.needs_cap("KVM_CAP_GUEST_MEMFD_FLAGS")
def test_a_closed_guest_memfd(vm: Vm, guest: Guest) -> None:
    memfd = vm.create_guest_memfd(SIZE, GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED)
    vm.memslots.add(GPA, None, guest_memfd=memfd)
    memfd.close()
    fault = MemoryFault(gpa=GPA + PAGE, size=PAGE, errno=errno.EFAULT)
    guest("ldr w4, [x0]", GPA + PAGE + 0x10).expects(fault)
