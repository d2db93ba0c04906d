# SPDX-License-Identifier: GPL-2.0-only
"""A tmpfs of limited size that is mounted nowhere and lives as long as its descriptor."""

import ctypes
import os

from pyvmm import libc
from pyvmm.errors import SkippedError

# asm-generic/unistd.h, the same numbers on every architecture; linux/mount.h
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CLOEXEC = 1
_FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 1, 6


def create(size: int) -> int:
    """Create a tmpfs of `size` bytes; return the descriptor of its root directory.

    Raises `SkippedError` without CAP_SYS_ADMIN.
    """
    name, key, value = map(ctypes.create_string_buffer, (b"tmpfs", b"size", str(size).encode()))
    try:
        context = libc.syscall(_FSOPEN, ctypes.addressof(name), _CLOEXEC)
    except OSError as error:
        raise SkippedError(f"fsopen: {os.strerror(error.errno or 0)}: it needs root") from None
    try:
        strings = ctypes.addressof(key), ctypes.addressof(value)
        libc.syscall(_FSCONFIG, context, _FSCONFIG_SET_STRING, *strings, 0)
        libc.syscall(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, 0, 0, 0)
        return libc.syscall(_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)
