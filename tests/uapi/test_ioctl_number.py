# SPDX-License-Identifier: GPL-2.0-only
"""An Ioctl is its number, and tells what the number encodes."""

import ctypes
import fcntl

import pytest

from pyvmm.kvm import System
from pyvmm.uapi import iommufd, kvm, vfio
from pyvmm.uapi.ioctl_number import Ioctl


@pytest.mark.parametrize(
    ("ioctl", "number", "direction", "size"),
    [
        (kvm.KVM_RUN, 0xAE80, "none", 0),
        (kvm.KVM_SET_USER_MEMORY_REGION, 0x4020AE46, "write", 32),
        (kvm.KVM_GET_CLOCK, 0x8030AE7C, "read", 48),
        (kvm.KVM_CREATE_DEVICE, 0xC00CAEE0, "read-write", 12),
        (vfio.VFIO_DEVICE_GET_INFO, 0x3B6B, "none", 0),
        (iommufd.IOMMU_IOAS_MAP, 0x3B85, "none", 0),
    ],
    ids=repr,
)
def test_number(ioctl: Ioctl, number: int, direction: str, size: int) -> None:
    assert (ioctl, ioctl.direction, ioctl.size) == (number, direction, size)


@pytest.mark.parametrize("module", [kvm, vfio, iommufd], ids=lambda module: module.__name__)
def test_the_argument_has_the_size_that_the_number_encodes(module: object) -> None:
    for ioctl in (value for value in vars(module).values() if isinstance(value, Ioctl)):
        if ioctl.size and ioctl.argument:
            assert ctypes.sizeof(ioctl.argument) == ioctl.size, ioctl


def test_fcntl_takes_it(kvm: System) -> None:
    from pyvmm.uapi.kvm import KVM_API_VERSION, KVM_GET_API_VERSION

    assert fcntl.ioctl(kvm.fileno(), KVM_GET_API_VERSION) == KVM_API_VERSION
