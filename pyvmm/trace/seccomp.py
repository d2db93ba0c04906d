# SPDX-License-Identifier: GPL-2.0-only
"""The filter that a traced program starts with: it stops at the calls that matter, and at no other.

A classic BPF program over ``struct seccomp_data`` (Documentation/userspace-api/
seccomp_filter.rst). Of the ioctls only those of KVM, vfio and iommufd stop, by the type that
their number encodes; whatever else the program does runs at full speed.

A filter cannot be taken off again, and without a tracer what it stops at fails with ENOSYS: so a
program that was started under trace keeps its tracer until its end (see `pyvmm.trace.apart`).
"""

import ctypes
import struct
from collections.abc import Iterable

from pyvmm import libc
from pyvmm.trace.ptrace import CPU_X86_64, NUMBERS

_ARCH = 0xC000_003E if CPU_X86_64 else 0xC000_00B7  # AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64

# linux/bpf_common.h: load a word of the data, keep some bits, jump if equal, return
_LOAD, _AND, _JEQ, _RETURN = 0x20, 0x54, 0x15, 0x06
_NUMBER_AT, _ARCH_AT, _REQUEST_AT = 0, 4, 24  # in struct seccomp_data; args[1]'s lower half
_ALLOW, _TRACE = 0x7FFF_0000, 0x7FF0_0000  # SECCOMP_RET_*

IOCTL_TYPES = (0xAE, ord(";"))  # KVMIO; VFIO_TYPE, which iommufd shares

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2


def program(calls: Iterable[str]) -> bytes:
    """The BPF instructions that trace `calls`, and of ioctl only KVM's, vfio's and iommufd's."""
    numbers = [NUMBERS[name] for name in calls if name != "ioctl" and name in NUMBERS]
    code = [(_LOAD, _ARCH_AT, None), (_JEQ, _ARCH, "native"), (_RETURN, _ALLOW, None)]
    native = len(code)
    code.append((_LOAD, _NUMBER_AT, None))
    code += [(_JEQ, number, "trace") for number in numbers]
    code += [(_JEQ, NUMBERS["ioctl"], "ioctl"), (_RETURN, _ALLOW, None)]
    ioctl = len(code)
    code += [(_LOAD, _REQUEST_AT, None), (_AND, 0xFF00, None)]
    code += [(_JEQ, kind << 8, "trace") for kind in IOCTL_TYPES]
    code.append((_RETURN, _ALLOW, None))
    targets = {"native": native, "ioctl": ioctl, "trace": len(code)}
    code.append((_RETURN, _TRACE, None))
    return b"".join(
        struct.pack("=HBBI", op, targets[to] - at - 1 if to else 0, 0, operand)
        for at, (op, operand, to) in enumerate(code)
    )


def install(code: bytes) -> None:
    """Put the filter on this process and all that it becomes.

    Without CAP_SYS_ADMIN the kernel wants no_new_privs first, which takes set-user-id programs
    their privilege, as ptrace(2) does anyway. Raises `OSError`: EINVAL from a kernel without
    CONFIG_SECCOMP_FILTER.
    """
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: a u16 count, and a pointer
    fprog = (ctypes.c_uint64 * 2)(len(code) // 8, ctypes.addressof(buffer))
    arguments = (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(fprog), 0, 0)
    try:
        libc.prctl(*arguments)
    except OSError:
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(*arguments)
