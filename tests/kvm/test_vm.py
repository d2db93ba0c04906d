# SPDX-License-Identifier: GPL-2.0-only
import errno
import resource
from pathlib import Path

import pytest

from pyvmm.ioctl import IoctlError
from pyvmm.kvm import System, Vm
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.uapi.kvm import (
    KVM_DEV_TYPE_ARM_VGIC_V3,
    KVM_DEV_TYPE_VFIO,
)
from tests.process import open_fds, soft_limit

NO_SUCH_DEVICE = 9999


def test_vcpu_index_in_use(vm: Vm) -> None:
    vm.create_vcpu(1)
    with pytest.raises(IoctlError) as failure:
        vm.create_vcpu(1)
    assert failure.value.errno == errno.EEXIST


def test_create_vcpu_without_address_space(vm: Vm) -> None:
    before = open_fds()
    [pages] = Path("/proc/self/statm").read_text().split()[:1]
    limit = int(pages) * PAGE_SIZE
    with soft_limit(resource.RLIMIT_AS, limit), pytest.raises(OSError, match=r"mmap\("):
        vm.create_vcpu()
    assert open_fds() == before


def test_create_device(vm: Vm) -> None:
    before = open_fds()
    assert vm.has_device(KVM_DEV_TYPE_VFIO)
    assert not vm.has_device(NO_SUCH_DEVICE)
    assert open_fds() == before
    assert vm.create_device(KVM_DEV_TYPE_VFIO).fileno() >= 0
    with pytest.raises(IoctlError) as failure:
        vm.create_device(NO_SUCH_DEVICE)
    assert failure.value.errno == errno.ENODEV


@pytest.mark.needs_arch("aarch64")
def test_has_gic(vm: Vm) -> None:
    assert vm.has_device(KVM_DEV_TYPE_ARM_VGIC_V3)


def test_close_closes_vcpus_and_devices(kvm: System) -> None:
    before = open_fds()
    vm = kvm.create_vm()
    vcpu, device = vm.create_vcpu(), vm.create_device(KVM_DEV_TYPE_VFIO)
    with Mapping.anonymous(PAGE_SIZE) as memory:
        vm.memslots.add(0, memory)
        vm.close()
    vm.close()
    assert open_fds() == before
    assert len(vm.memslots) == 0
    for fd in (vm, vcpu, device):
        with pytest.raises(ValueError, match="closed"):
            fd.fileno()


def test_exception_closes_the_vm(kvm: System) -> None:
    before = open_fds()
    with pytest.raises(ZeroDivisionError), kvm.create_vm() as vm:
        vm.create_vcpu(1 // (vm.fileno() * 0))
    assert open_fds() == before
