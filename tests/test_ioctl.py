# SPDX-License-Identifier: GPL-2.0-only
import errno
import os
from pathlib import Path

import pytest

from pyvmm.errors import Status
from pyvmm.ioctl import Fd, IoctlError
from pyvmm.kvm import System, Vm
from pyvmm.uapi.kvm import (
    KVM_CHECK_EXTENSION,
    KVM_CREATE_DEVICE,
    KVM_GET_API_VERSION,
    KVM_SET_GSI_ROUTING,
    kvm_create_device,
    kvm_irq_routing,
)
from tests.process import open_fds


def null() -> Fd:
    return Fd(os.open("/dev/null", os.O_RDWR))


def test_an_ioctl_returns_the_kernels_result(kvm: System) -> None:
    assert kvm.ioctl(KVM_GET_API_VERSION) == 12


@pytest.mark.parametrize("argument", [1 << 31, (1 << 32) - 1, (1 << 64) - 1])
def test_an_integer_argument_is_unsigned(kvm: System, argument: int) -> None:
    assert kvm.ioctl(KVM_CHECK_EXTENSION, argument) == 0


def test_enotty_has_the_status_lacking() -> None:
    with null() as fd, pytest.raises(IoctlError) as failure:
        fd.ioctl(KVM_GET_API_VERSION)
    assert failure.value.errno == errno.ENOTTY
    assert failure.value.status == Status.LACKING
    assert "try a newer kernel" in str(failure.value)


def test_an_error_keeps_the_request_and_its_argument(vm: Vm) -> None:
    asked = kvm_create_device(type=9999)
    with pytest.raises(IoctlError) as failure:
        vm.ioctl(KVM_CREATE_DEVICE, asked)
    error = failure.value
    assert (error.request, error.kind, error.argument) == (KVM_CREATE_DEVICE, "vm", asked)
    assert error.status == Status.FAILED
    assert str(error).startswith("KVM_CREATE_DEVICE on the vm fd: ENODEV (No such device) [")
    assert "type=0x270f" in str(error)


def test_an_integer_argument_is_shown() -> None:
    with null() as fd, pytest.raises(IoctlError, match=r"\[argument 0xf3\]$"):
        fd.ioctl(KVM_CHECK_EXTENSION, 243)


def test_the_text_is_one_line_for_a_large_argument(vm: Vm) -> None:
    table = kvm_irq_routing.with_room(1000)(nr=1000, flags=1)
    with pytest.raises(IoctlError) as failure:
        vm.ioctl(KVM_SET_GSI_ROUTING, table)
    assert "\n" not in str(failure.value)
    assert len(str(failure.value)) < 1000


def test_close_is_idempotent() -> None:
    before = open_fds()
    fd = null()
    fd.close()
    fd.close()
    assert open_fds() == before
    with pytest.raises(ValueError, match="the file fd is closed"):
        fd.fileno()


def test_an_exception_closes_the_descriptor_of_a_with_block() -> None:
    before = open_fds()
    with pytest.raises(ZeroDivisionError), null():
        _ = 1 / 0
    assert open_fds() == before


def test_an_unclosed_descriptor_is_closed_with_a_warning() -> None:
    before = open_fds()
    with pytest.warns(ResourceWarning, match="unclosed file fd"):
        null()
    assert open_fds() == before


def test_a_descriptor_is_not_inheritable(kvm: System) -> None:
    assert Path(f"/proc/self/fd/{kvm.fileno()}").readlink() == Path("/dev/kvm")
    assert not os.get_inheritable(kvm.fileno())
