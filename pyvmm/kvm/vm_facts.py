# SPDX-License-Identifier: GPL-2.0-only
"""The state of a VM and of its descriptors, for `pyvmm.why`."""

import errno
import os
from pathlib import Path

from pyvmm.ioctl import IoctlError
from pyvmm.kvm.vm_fd import VmFd
from pyvmm.uapi.kvm import KVM_CAP_USER_MEMORY
from pyvmm.why import VmState


def file_name(descriptor: int, pid: int | str = "self") -> str:
    """Return the file behind a descriptor of process `pid`, or "" if it is closed.

    Raises `PermissionError` for a process that may not be inspected.
    """
    try:
        return str(Path(f"/proc/{pid}/fd/{descriptor}").readlink())
    except FileNotFoundError:
        return ""


def vm_state(vm: VmFd) -> VmState:
    """Return the state of a VM. A dead one fails every ioctl with EIO."""
    if vm.pid != os.getpid():
        return VmState(same_process=False)
    try:
        vm.check(KVM_CAP_USER_MEMORY)
    except IoctlError as error:
        return VmState(dead=error.errno == errno.EIO)
    return VmState()
