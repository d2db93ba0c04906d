# SPDX-License-Identifier: GPL-2.0-only
"""The table of fds matches the generated ioctls and the kernel."""

import errno
import fcntl

from pyvmm.ioctl import Fd
from pyvmm.kvm import System, Vcpu, Vm
from pyvmm.uapi import iommufd, kvm_arm64, kvm_x86_64, native_arch, vfio
from pyvmm.uapi import kvm as uapi_kvm
from pyvmm.uapi.fds import ANSWERS, ARGUMENTS, fds_of
from pyvmm.uapi.ioctl_number import Ioctl

IOCTLS = {
    name: value
    for module in (uapi_kvm, kvm_arm64, kvm_x86_64, vfio, iommufd)
    for name, value in vars(module).items()
    if isinstance(value, Ioctl)
}


def test_every_listed_ioctl_exists() -> None:
    listed = {name for text in ANSWERS.values() for name in text.split()} | set(ARGUMENTS)
    assert listed == set(IOCTLS) | set(ARGUMENTS)
    assert set(ARGUMENTS) <= set(IOCTLS)


def test_an_ioctl_of_several_fds() -> None:
    assert fds_of("KVM_CHECK_EXTENSION") == ("system", "vm")
    assert fds_of("KVM_NO_SUCH") == ()


UNMAPPED = 8  # an address
UNKNOWN = (errno.ENOTTY, errno.EINVAL)  # KVM's fds differ in the errno for an unknown ioctl


def test_every_fd_that_implements_an_ioctl_is_listed(kvm: System, vm: Vm, vcpu: Vcpu) -> None:
    """Pass each ioctl an unmapped pointer: EFAULT means that the fd implements the ioctl."""
    ioctls = native_ioctls()
    listed = {(kind, int(ioctl)) for ioctl in ioctls for kind in ioctl.fds}
    faults = 0
    fds: dict[str, Fd] = {"system": kvm, "vm": vm, "vcpu": vcpu}
    for kind, fd in fds.items():
        for ioctl in ioctls:
            if ioctl.argument and (number := _errno(fd, ioctl)) not in UNKNOWN:
                assert (kind, int(ioctl)) in listed, f"{ioctl}: {errno.errorcode[number]}"
                faults += number == errno.EFAULT
    assert faults > 20


def native_ioctls() -> list[Ioctl]:
    modules = (uapi_kvm, native_arch.module)
    return [v for module in modules for v in vars(module).values() if isinstance(v, Ioctl)]


def _errno(fd: Fd, ioctl: Ioctl) -> int:
    try:
        fcntl.ioctl(fd.fileno(), ioctl, UNMAPPED)
    except OSError as error:
        return error.errno or 0
    return 0
