# SPDX-License-Identifier: GPL-2.0-only
"""ptrace(2): python-ptrace's binding, and what it lacks.

From python-ptrace come the requests, options and events, registers, and the names of system
calls and signals. Its `PtraceDebugger` is not used: it asks each thread in turn whether it has
stopped, and sleeps between two rounds, where a traced VMM stops a hundred thousand times. What
it does not know is added here: PTRACE_SEIZE and its kin, stops at a seccomp filter's wish, and
PTRACE_GET_SYSCALL_INFO, which says what a system call is without knowing registers.
"""

import contextlib
import ctypes
import errno
import struct
from collections.abc import Iterator
from typing import NamedTuple

from pyvmm import libc
from pyvmm.errors import LackingError

try:
    from ptrace.binding.func import (
        PTRACE_CONT,
        PTRACE_DETACH,
        PTRACE_EVENT_CLONE,
        PTRACE_EVENT_EXEC,
        PTRACE_EVENT_FORK,
        PTRACE_EVENT_VFORK,
        PTRACE_O_TRACECLONE,
        PTRACE_O_TRACEEXEC,
        PTRACE_O_TRACEFORK,
        PTRACE_O_TRACESYSGOOD,
        PTRACE_O_TRACEVFORK,
        PTRACE_SETREGSET,
        PTRACE_SYSCALL,
        THREAD_TRACE_FLAGS,
        ptrace,
        ptrace_geteventmsg,
        ptrace_getregs,
        ptrace_getsiginfo,
        ptrace_setregs,
    )
    from ptrace.cpu_info import CPU_X86_64
    from ptrace.error import PtraceError
    from ptrace.signames import signalName
    from ptrace.syscall.names import SYSCALL_NAMES
except ImportError:
    raise LackingError("trace needs python-ptrace: pip install 'pyvmm[trace]'") from None

__all__ = [
    "ARGUMENTS_STAY",
    "CONT",
    "CPU_X86_64",
    "DETACH",
    "EVENT_EXEC",
    "EVENT_SECCOMP",
    "EVENT_STOP",
    "INTERRUPT",
    "LISTEN",
    "NEW_TASK_EVENTS",
    "NUMBERS",
    "OPTIONS",
    "SECCOMP_STOP",
    "SEIZE",
    "SYSCALL",
    "SYSCALL_STOP",
    "WALL",
    "PtraceError",
    "SyscallInfo",
    "event_message",
    "finished_call",
    "from_terminal",
    "ptrace",
    "quick",
    "set_result",
    "signalName",
    "skip",
    "syscall_info",
]

# linux/ptrace.h
SEIZE = 0x4206
INTERRUPT = 0x4207
LISTEN = 0x4208
_GET_SYSCALL_INFO = 0x420E
_O_TRACESECCOMP = 1 << 7
EVENT_SECCOMP = 7
EVENT_STOP = 128
_NT_ARM_SYSTEM_CALL = 0x404  # linux/elf.h
_SI_KERNEL = 0x80  # asm-generic/siginfo.h
_ALL_ONES = (1 << 64) - 1

CONT: int = PTRACE_CONT
DETACH: int = PTRACE_DETACH
SYSCALL: int = PTRACE_SYSCALL
EVENT_EXEC: int = PTRACE_EVENT_EXEC
NEW_TASK_EVENTS: tuple[int, ...] = (PTRACE_EVENT_FORK, PTRACE_EVENT_VFORK, PTRACE_EVENT_CLONE)
WALL: int = THREAD_TRACE_FLAGS
OPTIONS: int = (
    PTRACE_O_TRACESYSGOOD
    | PTRACE_O_TRACEFORK
    | PTRACE_O_TRACEVFORK
    | PTRACE_O_TRACECLONE
    | PTRACE_O_TRACEEXEC
    | _O_TRACESECCOMP
)

# Two wait statuses, whole: a stop in SIGTRAP with bit 7 (TRACESYSGOOD), and one with an event.
SYSCALL_STOP = 0x85 << 8 | 0x7F
SECCOMP_STOP = EVENT_SECCOMP << 16 | 0x05 << 8 | 0x7F

# The lowest number of each name: x86-64's table has x32's calls as well, from 512.
NUMBERS: dict[str, int] = {
    name: number for number, name in sorted(SYSCALL_NAMES.items(), reverse=True)
}

# ptrace(2) for the loop that a traced VMM's every exit goes through. It reports no errno: the only
# one there is to expect, a tracee that has just been killed (ESRCH), waitpid tells of anyway.
quick = libc.ptrace

# struct ptrace_syscall_info: op, arch, instruction_pointer, stack_pointer, then a union.
_INFO = ctypes.create_string_buffer(88)
_INFO_SIZE, _INFO_AT = ctypes.c_void_p(88), ctypes.c_void_p(ctypes.addressof(_INFO))
_ENTRY = struct.Struct("=B23x7Q").unpack_from
_EXIT = struct.Struct("=24xq").unpack_from
_EXITED = 2  # PTRACE_SYSCALL_INFO_EXIT


class SyscallInfo(NamedTuple):
    """What a thread that stands at a system call is about to do, or what came of it."""

    leaving: bool
    number: int
    args: tuple[int, ...]
    result: int  # negative errno, as the kernel returns it; 0 on the way in


def syscall_info(tid: int) -> SyscallInfo:
    """``PTRACE_GET_SYSCALL_INFO`` (Linux 5.3). Zeros where the thread has just been killed."""
    _INFO[0] = b"\0"
    quick(_GET_SYSCALL_INFO, tid, _INFO_SIZE, _INFO_AT)
    op, number, *args = _ENTRY(_INFO)
    if op == _EXITED:
        return SyscallInfo(True, -1, (), _EXIT(_INFO)[0])
    return SyscallInfo(False, number, tuple(args), 0)


# Do a thread's registers still hold a system call's number and arguments when it has returned?
# On x86-64 they do; on arm64 the result takes the first argument's place.
ARGUMENTS_STAY: bool = CPU_X86_64

# struct user_regs_struct of x86-64: …, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax, …
_REGISTERS = ctypes.create_string_buffer(27 * 8)
_REGISTERS_AT = ctypes.c_void_p(ctypes.addressof(_REGISTERS))
_AT_EXIT = struct.Struct("=56xQQQq8xQQQQ").unpack_from
_GETREGS = 12  # PTRACE_GETREGS


def finished_call(tid: int) -> tuple[int, tuple[int, ...], int]:
    """The number, arguments and result of a call that has returned, where `ARGUMENTS_STAY`."""
    quick(_GETREGS, tid, None, _REGISTERS_AT)
    r10, r9, r8, rax, rdx, rsi, rdi, number = _AT_EXIT(_REGISTERS)
    return number, (rdi, rsi, rdx, r10, r8, r9), rax


def skip(tid: int) -> None:
    """Make the kernel do nothing for the system call that a thread is about to make."""
    with _gone_is_fine():
        if CPU_X86_64:
            registers = ptrace_getregs(tid)
            registers.orig_rax = _ALL_ONES
            ptrace_setregs(tid, registers)
        else:
            number = ctypes.c_int(-1)
            iovec = (ctypes.c_uint64 * 2)(ctypes.addressof(number), ctypes.sizeof(number))
            ptrace(PTRACE_SETREGSET, tid, _NT_ARM_SYSTEM_CALL, ctypes.addressof(iovec))


def set_result(tid: int, result: int) -> None:
    """Give a thread that is leaving a system call `result` (a negative errno, or a value)."""
    with _gone_is_fine():
        registers = ptrace_getregs(tid)
        setattr(registers, "rax" if CPU_X86_64 else "r0", result & _ALL_ONES)
        ptrace_setregs(tid, registers)


def event_message(tid: int) -> int:
    """The message of a ptrace event: a new task's id, or the id a thread had before its exec."""
    with _gone_is_fine():
        return int(ptrace_geteventmsg(tid))
    return 0


def from_terminal(tid: int) -> bool:
    """Does the signal that a thread has stopped for come from the kernel: a key was pressed?"""
    with _gone_is_fine():
        return int(ptrace_getsiginfo(tid).si_code) == _SI_KERNEL
    return False


@contextlib.contextmanager
def _gone_is_fine() -> Iterator[None]:
    """A tracee may be killed at any moment: its end is told by waitpid, not by each request."""
    try:
        yield
    except PtraceError as error:
        if error.errno != errno.ESRCH:
            raise
