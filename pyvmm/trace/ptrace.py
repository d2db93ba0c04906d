# SPDX-License-Identifier: GPL-2.0-only
"""ptrace(2) requests, and the facts about a task that /proc reports.

python-ptrace provides the request numbers, options, events, registers, and the names of system
calls and signals. Its `PtraceDebugger` is not used: it polls each thread in turn and sleeps
between two rounds, while a traced VMM stops a hundred thousand times. This module adds what
python-ptrace lacks: ``PTRACE_SEIZE``, ``PTRACE_INTERRUPT``, ``PTRACE_LISTEN``, seccomp stops, and
``PTRACE_GET_SYSCALL_INFO``, which describes a system call independently of the architecture.
"""

import contextlib
import ctypes
import errno
import os
import pwd
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pyvmm import libc, seccomp
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
    from ptrace.syscall.linux import i386
    from ptrace.syscall.names import SYSCALL_NAMES
except ImportError:
    raise LackingError("trace needs python-ptrace: pip install 'pyvmm[trace]'") from None

__all__ = [
    "ARGS_SURVIVE_SYSCALL",
    "CONT",
    "CPU_X86_64",
    "DETACH",
    "EVENT_EXEC",
    "EVENT_SECCOMP",
    "EVENT_STOP",
    "I386_SYSCALLS",
    "INTERRUPT",
    "LISTEN",
    "NEW_TASK_EVENTS",
    "OPTIONS",
    "SECCOMP_STOP",
    "SEIZE",
    "SYSCALL",
    "SYSCALLS",
    "SYSCALL_STOP",
    "WALL",
    "PtraceError",
    "SyscallInfo",
    "attach_error",
    "event_message",
    "i386_syscall_at_exit",
    "ptrace",
    "ptrace_unchecked",
    "set_result",
    "signal_from_kernel",
    "skip_syscall",
    "syscall_at_exit",
    "syscall_info",
    "thread_group",
    "thread_ids",
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
_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")

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

# Complete wait statuses: SIGTRAP with bit 7 set (PTRACE_O_TRACESYSGOOD), and SIGTRAP with an event.
SYSCALL_STOP = 0x85 << 8 | 0x7F
SECCOMP_STOP = EVENT_SECCOMP << 16 | 0x05 << 8 | 0x7F

# The lowest number of each name: x86-64's table also lists the x32 calls, from 512.
SYSCALLS: dict[str, int] = {
    name: number for number, name in sorted(SYSCALL_NAMES.items(), reverse=True)
}

# The i386 system calls of x86-64 with another number than their native form. Those since Linux 5.1
# have one number in both ABIs, and a stop at their exit does not tell which it was.
I386_SYSCALLS: dict[str, int] = (
    {
        name: number
        for number, name in sorted(i386.SYSCALL_NAMES.items(), reverse=True)
        if SYSCALLS.get(name) != number
    }
    if CPU_X86_64
    else {}
)
if I386_SYSCALLS:
    I386_SYSCALLS["mmap"] = I386_SYSCALLS["mmap2"]
_FROM_I386 = {number: SYSCALLS[name] for name, number in I386_SYSCALLS.items() if name in SYSCALLS}
_MMAP2_UNIT = 4096  # of its offset, in bytes

# ptrace(2) without error checks, for the loop that handles every exit of a traced VMM. The only
# expected error is ESRCH for a tracee that was killed, and waitpid(2) reports that one.
ptrace_unchecked = libc.ptrace

# struct ptrace_syscall_info: op, arch, instruction_pointer, stack_pointer, then a union.
_INFO = ctypes.create_string_buffer(88)
_INFO_SIZE, _INFO_AT = ctypes.c_void_p(88), ctypes.c_void_p(ctypes.addressof(_INFO))
_ENTRY = struct.Struct("=B3xI16x7Q").unpack_from
_EXIT = struct.Struct("=24xq").unpack_from
_INFO_EXIT = 2  # PTRACE_SYSCALL_INFO_EXIT


class SyscallInfo(NamedTuple):
    """A thread's stop at system call entry or exit (``struct ptrace_syscall_info``).

    Attributes:
        at_exit: True at syscall exit. `number` is then -1 and `args` is empty.
        number: the number in the native ABI, or -1 for a foreign call without a native form.
        result: the return value at syscall exit, or a negative errno; 0 at entry.
    """

    at_exit: bool
    number: int
    args: tuple[int, ...]
    result: int


def syscall_info(tid: int) -> SyscallInfo:
    """Return the result of ``PTRACE_GET_SYSCALL_INFO`` (Linux 5.3); zeros for a killed thread."""
    _INFO[0] = b"\0"
    ptrace_unchecked(_GET_SYSCALL_INFO, tid, _INFO_SIZE, _INFO_AT)
    op, arch, number, *args = _ENTRY(_INFO)
    if op == _INFO_EXIT:
        return SyscallInfo(True, -1, (), _EXIT(_INFO)[0])
    if arch != seccomp.ARCH:
        number, args = _native_syscall(number, args)
    return SyscallInfo(False, number, tuple(args), 0)


def _native_syscall(number: int, args: list[int]) -> tuple[int, list[int]]:
    """Return the native form of an i386 system call; -1 for one without."""
    if number == I386_SYSCALLS.get("mmap"):
        args[5] *= _MMAP2_UNIT
    return _FROM_I386.get(number, -1), args


# True if the registers still hold a system call's number and arguments at its exit. On arm64 the
# result overwrites the first argument (x0).
ARGS_SURVIVE_SYSCALL: bool = CPU_X86_64

# struct user_regs_struct of x86-64: …, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax, …
_REGISTERS = ctypes.create_string_buffer(27 * 8)
_REGISTERS_AT = ctypes.c_void_p(ctypes.addressof(_REGISTERS))
_AT_EXIT = struct.Struct("=56xQQQq8xQQQQ").unpack_from
_I386_AT_EXIT = struct.Struct(
    "=32xQQ40xQQQQQ"
).unpack_from  # rbp, rbx, rcx, rdx, rsi, rdi, orig_rax
_GETREGS = 12  # PTRACE_GETREGS


def syscall_at_exit(tid: int) -> tuple[int, tuple[int, ...], int]:
    """Return a system call's number, arguments and result; needs `ARGS_SURVIVE_SYSCALL`."""
    ptrace_unchecked(_GETREGS, tid, None, _REGISTERS_AT)
    r10, r9, r8, rax, rdx, rsi, rdi, number = _AT_EXIT(_REGISTERS)
    return number, (rdi, rsi, rdx, r10, r8, r9), rax


def i386_syscall_at_exit() -> tuple[int, tuple[int, ...]]:
    """Return the native form of the i386 call whose registers `syscall_at_exit` has just read."""
    rbp, rbx, rcx, rdx, rsi, rdi, i386_number = _I386_AT_EXIT(_REGISTERS)
    number, args = _native_syscall(i386_number, [rbx, rcx, rdx, rsi, rdi, rbp])
    return number, tuple(args)


def skip_syscall(tid: int) -> None:
    """Replace the system call that a thread is entering with number -1: the kernel skips it."""
    with _ignore_dead_tracee():
        if CPU_X86_64:
            registers = ptrace_getregs(tid)
            registers.orig_rax = _ALL_ONES
            ptrace_setregs(tid, registers)
        else:
            number = ctypes.c_int(-1)
            iovec = (ctypes.c_uint64 * 2)(ctypes.addressof(number), ctypes.sizeof(number))
            ptrace(PTRACE_SETREGSET, tid, _NT_ARM_SYSTEM_CALL, ctypes.addressof(iovec))


def set_result(tid: int, result: int) -> None:
    """Set the return value of a thread that is at syscall exit; an error is a negative errno."""
    with _ignore_dead_tracee():
        registers = ptrace_getregs(tid)
        setattr(registers, "rax" if CPU_X86_64 else "r0", result & _ALL_ONES)
        ptrace_setregs(tid, registers)


def event_message(tid: int) -> int:
    """Return ``PTRACE_GETEVENTMSG``: a new task's tid, or a thread's tid before execve(2)."""
    with _ignore_dead_tracee():
        return int(ptrace_geteventmsg(tid))
    return 0


def signal_from_kernel(tid: int) -> bool:
    """Return True if the pending signal has ``SI_KERNEL``, as Ctrl-C on a terminal does."""
    with _ignore_dead_tracee():
        return int(ptrace_getsiginfo(tid).si_code) == _SI_KERNEL
    return False


@contextlib.contextmanager
def _ignore_dead_tracee() -> Iterator[None]:
    """Suppress ESRCH: a tracee may be killed at any time, and waitpid(2) reports its end."""
    try:
        yield
    except PtraceError as error:
        if error.errno != errno.ESRCH:
            raise


def thread_ids(pid: int) -> set[int]:
    """Return the tids of process `pid`, or an empty set if the process has ended."""
    try:
        return {int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()}
    except FileNotFoundError:
        return set()


def thread_group(tid: int) -> int:
    """Return the pid of the process of thread `tid`, or `tid` if the thread has ended."""
    return int(_status(tid).get("Tgid", tid))


def attach_error(tid: int) -> str:
    """Return why ``PTRACE_SEIZE`` fails for a thread, and what to do about it.

    Returns "" if the thread has ended, or if this process traces it since its creation.
    """
    status = _status(tid)
    tracer = int(status.get("TracerPid", "0"))
    if status.get("State", "X")[0] in "ZX" or tracer == os.getpid():
        return ""
    process = f"process {status['Tgid']}"
    if tracer:
        return f"{process} is already traced by process {tracer}: stop that tracer first"
    owner, effective, *_ = map(int, status["Uid"].split())
    if (user := os.geteuid()) not in (0, owner):
        return f"{process} belongs to {_user_name(owner)}: trace it as that user or as root"
    if user and user != effective:
        name = _user_name(effective)
        return f"{process} is a set-user-ID program of {name}: trace it as root"
    if user and _is_protected(tid):
        return (
            f"{process} is protected (PR_SET_DUMPABLE, set-group-ID, capabilities): "
            "trace it as root"
        )
    if _YAMA.exists() and _YAMA.read_text().strip() != "0":
        return f"Yama forbids attaching to {process}: write 0 to {_YAMA} as root"
    return f"cannot trace {process}: it is a kernel thread or pyvmm itself"


def _is_protected(tid: int) -> bool:
    """Return True if the kernel made root the owner of the files in /proc/TID (proc(5))."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{tid}/status").stat().st_uid != os.geteuid()
    return False


def _status(tid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{tid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
