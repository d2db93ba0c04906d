# SPDX-License-Identifier: GPL-2.0-only
import errno
import os
import platform
import resource

import pytest

from pyvmm.ioctl import IoctlError
from pyvmm.kvm import System
from pyvmm.memory import PAGE_SIZE
from pyvmm.uapi.kvm import KVM_CAP_ARM_VM_IPA_SIZE
from tests.process import open_fds, soft_limit


def test_default_ipa_size(kvm: System) -> None:
    with kvm.create_vm() as vm:
        widest = kvm.check(KVM_CAP_ARM_VM_IPA_SIZE)
        assert vm.vm_type == min(widest, 43 if PAGE_SIZE == 16 << 10 else 48)
        assert (widest > 0) == (platform.machine() == "aarch64")


def test_invalid_vm_type(kvm: System) -> None:
    before = open_fds()
    with pytest.raises(IoctlError) as failure:
        kvm.create_vm(1 << 30)
    assert failure.value.errno == errno.EINVAL
    assert open_fds() == before


def test_create_vm_without_free_fds(kvm: System) -> None:
    before = open_fds()
    with soft_limit(resource.RLIMIT_NOFILE, 0), pytest.raises(IoctlError) as failure:
        kvm.create_vm()
    assert failure.value.errno == errno.EMFILE
    assert open_fds() == before


def test_vm_fd_is_not_inheritable(kvm: System) -> None:
    with kvm.create_vm() as vm:
        assert not os.get_inheritable(vm.fileno())
