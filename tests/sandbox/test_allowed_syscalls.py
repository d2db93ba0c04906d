# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm import seccomp
from pyvmm.sandbox import allowed_syscalls
from tests.bpf import filter_result

X86 = pytest.importorskip("ptrace.syscall.linux.x86_64").SYSCALL_NAMES
ARM64 = pytest.importorskip("ptrace.syscall.linux.aarch64").SYSCALL_NAMES


@pytest.mark.parametrize(("name", "numbers"), allowed_syscalls.NUMBERS.items())
def test_numbers(name: str, numbers: tuple[int | None, int | None]) -> None:
    for names, number in zip((X86, ARM64), numbers, strict=True):
        assert number is None or names[number] == name


def test_calls_of_another_architecture_kill() -> None:
    program = allowed_syscalls.program()
    assert filter_result(program, 0, arch=0x4000_0003) == seccomp.KILL_PROCESS
