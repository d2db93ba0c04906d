# SPDX-License-Identifier: GPL-2.0-only
"""Landlock: restrict which files this process can open (Documentation/userspace-api/landlock.rst).

A descriptor that is already open keeps its rights.
"""

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

from pyvmm import libc

# The system calls have these numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446

# linux/landlock.h
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_WRITE_FILE, _READ_FILE, _READ_DIR, _IOCTL_DEV = 1 << 1, 1 << 2, 1 << 3, 1 << 15

READ = _READ_FILE | _READ_DIR
WRITE = _WRITE_FILE
DEVICE = _READ_FILE | _WRITE_FILE | _IOCTL_DEV

_ONLY_DIRECTORIES = _READ_DIR

# The number of rights, which are the lowest bits, from each version of the ABI on.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16, 9: 17}  # LANDLOCK_ACCESS_FS_*
_NETWORK_RIGHTS = {4: 2, 10: 4}  # LANDLOCK_ACCESS_NET_*: TCP, UDP
_SCOPES = {6: 2}  # LANDLOCK_SCOPE_*: abstract Unix sockets, signals


class _Ruleset(ctypes.Structure):
    """``struct landlock_ruleset_attr``: the rights that rules must grant."""

    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    """``struct landlock_path_beneath_attr``: rights on a file, or on all below a directory."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("access", ctypes.c_uint64), ("fd", ctypes.c_int32))


def abi() -> int:
    """Return the version of the kernel's Landlock ABI; 0 if it is missing or disabled at boot."""
    try:
        return libc.syscall(_CREATE_RULESET, 0, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def restrict(rights: Mapping[Path, int]) -> None:
    """Deny all files but those in or below the paths of `rights`, which has rights by path.

    TCP, abstract Unix sockets and signals to processes outside, Unix sockets by path, and UDP are
    denied too, from ABI 4, 6, 9 and 10 on. Paths that do not exist are ignored. Needs
    ``no_new_privs``; cannot be undone; applies to this thread and the ones it starts. Raises
    `OSError`.
    """
    version = abi()
    files = _all(_FILE_RIGHTS, version)
    attributes = _Ruleset(files, _all(_NETWORK_RIGHTS, version), _all(_SCOPES, version))
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.addressof(attributes), size, 0)
    try:
        for path, access in rights.items():
            _allow(ruleset, path, access & files)
        libc.syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _all(numbers: Mapping[int, int], version: int) -> int:
    """Return the mask of all rights that a version of the ABI has."""
    return (1 << max((n for since, n in numbers.items() if since <= version), default=0)) - 1


def _allow(ruleset: int, path: Path, access: int) -> None:
    """Add a rule. The descriptor of `path` stays open, without any right but to name it.

    A rule belongs to an inode, and procfs makes a new one when the dentry of /proc/PID was
    dropped. An open descriptor keeps the dentry.
    """
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    if not path.is_dir():
        access &= ~_ONLY_DIRECTORIES
    rule = _PathBeneath(access, fd)
    libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.addressof(rule), 0)
