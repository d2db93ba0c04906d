# SPDX-License-Identifier: GPL-2.0-only
"""C library functions that Python's standard library lacks.

The parameters are those of the manual pages, with integers for addresses. A failing call raises
`OSError` with the errno, the name of the function and its arguments. Only `ptrace` does not.
"""

import ctypes
import os
from collections.abc import Callable
from ctypes import c_int, c_long, c_size_t, c_ssize_t, c_ulong, c_void_p
from typing import Any, cast

_FAILED = (-1, c_void_p(-1).value)  # the second is MAP_FAILED and SIG_ERR

_libc = ctypes.CDLL(None, use_errno=True)


class Iovec(ctypes.Structure):
    """``struct iovec``: `size` bytes at `base`."""

    _fields_ = (("base", c_void_p), ("size", c_size_t))


def _check(result: int | None, function: Any, arguments: tuple[Any, ...]) -> int:
    """Return the result of a call, or raise the `OSError` of its errno."""
    if result not in _FAILED:
        return result or 0  # ctypes returns None for the address 0
    number = ctypes.get_errno()
    shown = (hex(a) if isinstance(a, int) and a > 9 else str(a) for a in arguments)
    raise OSError(number, f"{function.__name__}({', '.join(shown)}): {os.strerror(number)}")


def _function(name: str, *argtypes: Any, restype: Any = c_int) -> Callable[..., int]:
    """Return the C library's function `name`, with a prototype and `_check`."""
    function: Any = _libc[name]
    function.argtypes, function.restype, function.errcheck = argtypes, restype, _check
    return cast(Callable[..., int], function)


fallocate = _function("fallocate", c_int, c_int, c_long, c_long)

ioctl = _function("ioctl", c_int, c_ulong, c_ulong)

mmap = _function("mmap", c_void_p, c_size_t, c_int, c_int, c_int, c_long, restype=c_void_p)
munmap = _function("munmap", c_void_p, c_size_t)
mprotect = _function("mprotect", c_void_p, c_size_t, c_int)
madvise = _function("madvise", c_void_p, c_size_t, c_int)

prctl = _function("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)

_VM = (c_int, ctypes.POINTER(Iovec), c_ulong, ctypes.POINTER(Iovec), c_ulong, c_ulong)
process_vm_readv = _function("process_vm_readv", *_VM, restype=c_ssize_t)
process_vm_writev = _function("process_vm_writev", *_VM, restype=c_ssize_t)

sigtimedwait = _function("sigtimedwait", c_void_p, c_void_p, c_void_p)
tgkill = _function("tgkill", c_int, c_int, c_int)

# ptrace(2) for a tracer's loop, without error reports. A call takes half the time without a
# prototype, without errno, and with None for 0.
ptrace = ctypes.CDLL(None).ptrace

_signal = _function("signal", c_int, c_void_p, restype=c_void_p)
_syscall = _function("syscall", c_long, restype=c_long)


def handle_signal(number: int) -> None:
    """Handle signal `number` with a C function that does nothing. Callable from any thread."""
    _signal(number, _libc.abs)  # abs() takes an int, as a handler does, and touches nothing


def syscall(number: int, *arguments: int) -> int:
    """Make the system call `number` of this architecture and return its result."""
    return _syscall(number, *map(c_long, arguments))
