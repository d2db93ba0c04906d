# SPDX-License-Identifier: GPL-2.0-only
"""Seccomp filters: classic BPF programs over ``struct seccomp_data``.

The tracer stops a program at the system calls that match; the sandbox allows them and no others.
See Documentation/userspace-api/seccomp_filter.rst.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from pyvmm import libc

# SECCOMP_RET_* of linux/seccomp.h. The errno goes into the lower 16 bits.
ALLOW, TRACE, ERRNO, KILL_PROCESS = 0x7FFF_0000, 0x7FF0_0000, 0x0005_0000, 0x8000_0000

# AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64
ARCH = 0xC000_003E if os.uname().machine == "x86_64" else 0xC000_00B7
I386 = 0x4000_0003  # AUDIT_ARCH_I386: 32-bit programs on x86-64, and int 0x80 in 64-bit ones

# linux/bpf_common.h: load a word of the data, mask it, jump if equal, return
_LOAD, _AND, _JEQ, _RETURN = 0x20, 0x54, 0x15, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data

# linux/prctl.h, linux/seccomp.h
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2

_WORD = 0xFFFF_FFFF


class Argument(NamedTuple):
    """A condition: the lower half of argument `number`, masked, is one of `values`."""

    number: int
    values: tuple[int, ...]
    mask: int = _WORD


@dataclass(frozen=True)
class Rule:
    """System call `number`, if all of `arguments` apply."""

    number: int
    arguments: tuple[Argument, ...] = ()


class _Instruction(NamedTuple):
    """A BPF instruction; a jump names its targets, and falls through without one."""

    op: int
    operand: int
    if_true: str = ""
    if_false: str = ""


class _Program:
    """BPF instructions and labels. Jumps go forward, at most 255 instructions."""

    def __init__(self) -> None:
        self._code: list[_Instruction] = []
        self._labels: dict[str, int] = {}

    def label(self, name: str) -> None:
        self._labels[name] = len(self._code)

    def emit(self, op: int, operand: int, if_true: str = "", if_false: str = "") -> None:
        self._code.append(_Instruction(op, operand, if_true, if_false))

    def assemble(self) -> bytes:
        """Return an array of ``struct sock_filter``."""
        return b"".join(
            struct.pack(
                "=HBBI", i.op, self._skip(at, i.if_true), self._skip(at, i.if_false), i.operand
            )
            for at, i in enumerate(self._code)
        )

    def _skip(self, at: int, target: str) -> int:
        return self._labels[target] - at - 1 if target else 0


def filter_program(
    rules: Iterable[Rule],
    match: int,
    otherwise: int,
    foreign: int,
    arch: int = ARCH,
    absent: Collection[int] = (),
) -> bytes:
    """Return a BPF program: action `match` if a rule applies, else `otherwise`.

    The action for system calls of another architecture than `arch` is `foreign`. System calls
    whose numbers are in `absent` fail with ENOSYS. The filter compares in the order of `rules`: put
    the frequent ones first.
    """
    calls: dict[int, list[Rule]] = {}
    for rule in rules:
        calls.setdefault(rule.number, []).append(rule)
    conditional = {n: group for n, group in calls.items() if all(rule.arguments for rule in group)}
    program = _Program()
    program.emit(_LOAD, _ARCH_AT)
    program.emit(_JEQ, arch, "native")
    program.emit(_RETURN, foreign)
    program.label("native")
    program.emit(_LOAD, _NUMBER_AT)
    for number in calls:
        program.emit(_JEQ, number, f"call {number}" if number in conditional else "match")
    for number in absent:
        program.emit(_JEQ, number, "absent")
    program.emit(_RETURN, otherwise)
    for number, group in conditional.items():
        program.label(f"call {number}")
        for at, rule in enumerate(group):
            _emit_arguments(program, rule, f"{number}.{at}")
        program.emit(_RETURN, otherwise)
    program.label("match")
    program.emit(_RETURN, match)
    program.label("absent")
    program.emit(_RETURN, ERRNO | errno.ENOSYS)
    return program.assemble()


def _emit_arguments(program: _Program, rule: Rule, name: str) -> None:
    """Emit code that jumps to ``match`` if all arguments apply, and else falls through."""
    for at, argument in enumerate(rule.arguments):
        passed = "match" if at == len(rule.arguments) - 1 else f"{name}.{at} passed"
        program.emit(_LOAD, _ARGUMENTS_AT + 8 * argument.number)
        if argument.mask != _WORD:
            program.emit(_AND, argument.mask)
        for value in argument.values[:-1]:
            program.emit(_JEQ, value, passed)
        program.emit(_JEQ, argument.values[-1], passed, f"{name} failed")
        if passed != "match":
            program.label(passed)
    program.label(f"{name} failed")


def has_filters() -> bool:
    """Return True if the kernel has seccomp filters (CONFIG_SECCOMP_FILTER)."""
    try:
        # With mode FILTER and no program the kernel reports EFAULT, without the option EINVAL.
        libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, 0, 0, 0)
    except OSError as error:
        return error.errno == errno.EFAULT
    return True


def set_no_new_privs() -> None:
    """Set ``no_new_privs``: execve(2) grants no privileges, to this thread and its children."""
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def install_filter(code: bytes) -> None:
    """Install a seccomp filter on this thread; its children and execve(2) inherit it.

    Without CAP_SYS_ADMIN the kernel requires no_new_privs first. That disables set-user-id
    programs, as ptrace(2) does anyway. Raises `OSError`: EINVAL if the kernel was built without
    CONFIG_SECCOMP_FILTER.
    """
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: a u16 count, and a pointer
    fprog = (ctypes.c_uint64 * 2)(len(code) // 8, ctypes.addressof(buffer))
    arguments = (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(fprog), 0, 0)
    try:
        libc.prctl(*arguments)
    except OSError:
        set_no_new_privs()
        libc.prctl(*arguments)
