# SPDX-License-Identifier: GPL-2.0-only
"""The system calls that a run may still make.

Memory becomes executable only by mapping a file that is not writable, as the dynamic linker does.
Processes, sockets, signals and execve(2) are not on the list, and threads only for a Linux guest,
which has one per vCPU and new ones after a reboot.
"""

import errno
import mmap
import os
from collections.abc import Iterator

from pyvmm import seccomp
from pyvmm.sandbox.allowed_ioctls import ioctls
from pyvmm.seccomp import Argument, Rule

# x86-64 and arm64 (asm-generic) numbers; None where only the newer call exists.
NUMBERS: dict[str, tuple[int | None, int | None]] = {
    # descriptors and files
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "lseek": (8, 62),
    "openat": (257, 56),
    "close": (3, 57),
    "fstat": (5, 80),
    "fstatfs": (138, 44),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    "fcntl": (72, 25),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "pipe2": (293, 59),
    "ftruncate": (77, 46),
    "poll": (7, None),
    "ppoll": (271, 73),
    # memory
    "brk": (12, 214),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    # signals of this process, and time
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "sched_yield": (24, 124),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    # this process
    "futex": (202, 98),
    "getrandom": (318, 278),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "uname": (63, 160),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
LINUX_GUEST: dict[str, tuple[int | None, int | None]] = {
    "eventfd2": (290, 19),
    "pselect6": (270, 72),
    "select": (23, None),
    # of a thread's start
    "rseq": (334, 293),
    "set_robust_list": (273, 99),
}
_CLONE = (56, 220)
_CLONE3 = 435  # on every architecture
_CLONE_THREAD = 0x10000
_IOCTL = (16, 29)
_MMAP = (9, 222)
_MPROTECT = (10, 226)
_TGKILL = (234, 131)
_PROCESS_VM = ((310, 270), (311, 271))  # readv, writev


def program(linux_guest: bool) -> bytes:
    """Return the seccomp filter; a system call that is not allowed fails with EPERM."""
    return seccomp.filter_program(
        _rules(linux_guest),
        seccomp.ALLOW,
        seccomp.ERRNO | errno.EPERM,
        foreign=seccomp.KILL_PROCESS,
        # Its flags are in memory, which a filter cannot read; glibc then calls clone(2).
        absent=(_CLONE3,) if linux_guest else (),
    )


def _rules(linux_guest: bool) -> Iterator[Rule]:
    """Yield the rules, the frequent ioctl(2) first."""
    native = 0 if os.uname().machine == "x86_64" else 1
    own_pid = (Argument(0, (os.getpid(),)),)
    not_executable = (Argument(2, (0,), mask=mmap.PROT_EXEC),)
    of_a_file = (
        Argument(2, (0,), mask=mmap.PROT_WRITE),
        Argument(3, (0,), mask=mmap.MAP_ANONYMOUS),
    )
    yield Rule(_IOCTL[native], (Argument(1, ioctls(linux_guest)),))
    if linux_guest:
        yield Rule(_CLONE[native], (Argument(0, (_CLONE_THREAD,), mask=_CLONE_THREAD),))
    for numbers in (*NUMBERS.values(), *(LINUX_GUEST.values() if linux_guest else ())):
        if (number := numbers[native]) is not None:
            yield Rule(number)
    yield Rule(_MMAP[native], not_executable)
    yield Rule(_MMAP[native], of_a_file)
    yield Rule(_MPROTECT[native], not_executable)
    for numbers in (*_PROCESS_VM, _TGKILL):
        yield Rule(numbers[native], own_pid)
