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
_NET_TCP = 3  # LANDLOCK_ACCESS_NET_BIND_TCP, _CONNECT_TCP
_SCOPE = 3  # LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, _SIGNAL

READ = _READ_FILE | _READ_DIR
WRITE = _WRITE_FILE
DEVICE = _READ_FILE | _WRITE_FILE | _IOCTL_DEV

_ONLY_DIRECTORIES = _READ_DIR

_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # their number, by ABI version
_FILE_RIGHTS_FROM_ABI_5 = 16


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

    TCP, abstract Unix sockets and signals to processes outside are denied too, from ABI 4 and 6
    on. Paths that do not exist are ignored. Needs ``no_new_privs``; cannot be undone; applies to
    this thread and the ones it starts. Raises `OSError`.
    """
    version = abi()
    files = (1 << _FILE_RIGHTS.get(version, _FILE_RIGHTS_FROM_ABI_5)) - 1
    attributes = _Ruleset(files, _NET_TCP, _SCOPE)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.addressof(attributes), size, 0)
    try:
        for path, access in rights.items():
            _allow(ruleset, path, access & files)
        libc.syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


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
