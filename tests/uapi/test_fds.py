# SPDX-License-Identifier: GPL-2.0-only
"""The hand-made table of fds speaks of ioctls that exist."""

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


def test_no_line_is_stale() -> None:
    listed = {name for text in ANSWERS.values() for name in text.split()} | set(ARGUMENTS)
    assert listed == set(IOCTLS) | set(ARGUMENTS)
    assert set(ARGUMENTS) <= set(IOCTLS)


def test_an_ioctl_of_several_fds() -> None:
    assert fds_of("KVM_CHECK_EXTENSION") == ("system", "vm")
    assert fds_of("KVM_NO_SUCH") == ()


NOWHERE = 8  # an address that nothing is mapped at
UNKNOWN = (errno.ENOTTY, errno.EINVAL)  # which of them, each of KVM's fds has its own habit


def test_every_fd_that_answers_is_listed(kvm: System, vm: Vm, vcpu: Vcpu) -> None:
    """Hand each ioctl a pointer to nowhere: who goes to fetch the argument knows the ioctl."""
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
        fcntl.ioctl(fd.fileno(), ioctl, NOWHERE)
    except OSError as error:
        return error.errno or 0
    return 0
