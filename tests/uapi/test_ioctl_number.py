# SPDX-License-Identifier: GPL-2.0-only
"""An Ioctl is a number with a name, fds and an argument."""

import ctypes
import fcntl

import pytest

from pyvmm.kvm import System
from pyvmm.uapi import iommufd, kvm, vfio
from pyvmm.uapi.ioctl_number import Ioctl


@pytest.mark.parametrize(
    ("ioctl", "number", "direction"),
    [
        (kvm.KVM_RUN, 0xAE80, "none"),
        (kvm.KVM_SET_USER_MEMORY_REGION, 0x4020AE46, "write"),
        (kvm.KVM_GET_CLOCK, 0x8030AE7C, "read"),
        (kvm.KVM_CREATE_DEVICE, 0xC00CAEE0, "read-write"),
        (vfio.VFIO_DEVICE_GET_INFO, 0x3B6B, "none"),
        (iommufd.IOMMU_IOAS_MAP, 0x3B85, "none"),
    ],
    ids=repr,
)
def test_number_and_direction(ioctl: Ioctl, number: int, direction: str) -> None:
    assert (ioctl, ioctl.direction) == (number, direction)


@pytest.mark.parametrize("module", [kvm, vfio, iommufd], ids=lambda module: module.__name__)
def test_the_argument_has_the_size_that_the_number_encodes(module: object) -> None:
    for ioctl in (value for value in vars(module).values() if isinstance(value, Ioctl)):
        size = ioctl >> 16 & 0x3FFF  # _IOC_SIZE
        if size and ioctl.argument:
            assert ctypes.sizeof(ioctl.argument) == size, ioctl


def test_fcntl_accepts_an_ioctl(kvm: System) -> None:
    from pyvmm.uapi.kvm import KVM_API_VERSION, KVM_GET_API_VERSION

    assert fcntl.ioctl(kvm.fileno(), KVM_GET_API_VERSION) == KVM_API_VERSION
