# SPDX-License-Identifier: GPL-2.0-only
"""The layouts are those of the running machine."""

import ctypes
import platform

from pyvmm.kvm import System
from pyvmm.uapi import native_arch
from pyvmm.uapi.kvm import KVM_GET_VCPU_MMAP_SIZE


def test_module() -> None:
    architecture = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    assert native_arch.module.__name__ == f"pyvmm.uapi.kvm_{architecture}"
    assert native_arch.kvm_run is native_arch.module.kvm_run


def test_kvm_run_fits_the_vcpu_mapping(kvm: System) -> None:
    assert ctypes.sizeof(native_arch.kvm_run) <= kvm.ioctl(KVM_GET_VCPU_MMAP_SIZE)
