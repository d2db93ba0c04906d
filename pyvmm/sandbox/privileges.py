# SPDX-License-Identifier: GPL-2.0-only
"""Capabilities and core dumps."""

import ctypes
import os
import resource

from pyvmm import libc

_CAPSET = 126 if os.uname().machine == "x86_64" else 91
_CAPABILITY_VERSION_3 = 0x2008_0522  # linux/capability.h


def drop_capabilities() -> None:
    """Clear the effective, permitted and inheritable capabilities of this thread."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)  # pid 0 is the caller
    none = (ctypes.c_uint32 * 6)()  # struct __user_cap_data_struct[2]
    libc.syscall(_CAPSET, ctypes.addressof(header), ctypes.addressof(none))


def disable_core_dumps() -> None:
    """Set RLIMIT_CORE to 1 byte: no dump to a file, and none to a program.

    The kernel ignores a limit of 0 if core_pattern is a pipe, and treats 1 as "no dump"
    (coredump_pipe() in fs/coredump.c). PR_SET_DUMPABLE would do the same, but it would also stop a
    debugger and ``pyvmm trace`` of the same user.
    """
    limit = 0 if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0 else 1
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
