# SPDX-License-Identifier: GPL-2.0-only
import errno

from pyvmm.kvm import Vm
from pyvmm.uapi.kvm import KVM_CAP_GUEST_MEMFD


def test_a_kernel_with_guest_memfd_rejects_a_second_binding(vm: Vm) -> None:
    ask = vm.host.guest_memfd_bound_errno
    assert ask
    if vm.check(KVM_CAP_GUEST_MEMFD):
        assert ask() in (errno.EINVAL, errno.EEXIST)
    else:
        assert ask() is None
