# SPDX-License-Identifier: GPL-2.0-only
"""The state of a VM and of its descriptors, for `pyvmm.why`."""

import errno
import os
from pathlib import Path

from pyvmm.ioctl import IoctlError
from pyvmm.kvm.vm_fd import VmFd
from pyvmm.uapi.kvm import KVM_CAP_USER_MEMORY
from pyvmm.why import VmState


def file_name(descriptor: int) -> str:
    """Return the file behind a descriptor of this process, or "" if it is closed."""
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:
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
