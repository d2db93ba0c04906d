# SPDX-License-Identifier: GPL-2.0-only
import errno

import pytest

from pyvmm.ioctl import IoctlError
from pyvmm.kvm import Vm
from pyvmm.uapi.kvm import KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_CAP_USER_MEMORY


def test_check(vm: Vm) -> None:
    assert vm.check(KVM_CAP_USER_MEMORY) == 1
    assert vm.check(60000) == 0


def test_offers_is_check_for_a_known_capability(vm: Vm) -> None:
    assert vm.offers(KVM_CAP_USER_MEMORY) == 1
    assert vm.offers(60000) == 0


def test_offers_on_a_closed_vm_is_an_error(vm: Vm) -> None:
    vm.close()
    with pytest.raises(ValueError, match="closed"):
        vm.offers(KVM_CAP_USER_MEMORY)


def test_enabled_capability_is_recorded(vm: Vm) -> None:
    vm.enable(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 1)
    assert vm.enabled == {KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2}


def test_failed_enable_is_not_recorded(vm: Vm) -> None:
    with pytest.raises(IoctlError) as failure:
        vm.enable(KVM_CAP_USER_MEMORY)
    assert failure.value.errno == errno.EINVAL
    assert vm.enabled == set()
