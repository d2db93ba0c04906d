# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm import seccomp
from pyvmm.sandbox import allowed_syscalls
from tests.bpf import filter_result

X86 = pytest.importorskip("ptrace.syscall.linux.x86_64").SYSCALL_NAMES
ARM64 = pytest.importorskip("ptrace.syscall.linux.aarch64").SYSCALL_NAMES


NUMBERS = {**allowed_syscalls.NUMBERS, **allowed_syscalls.LINUX_GUEST}


@pytest.mark.parametrize(("name", "numbers"), NUMBERS.items())
def test_numbers(name: str, numbers: tuple[int | None, int | None]) -> None:
    for names, number in zip((X86, ARM64), numbers, strict=True):
        assert number is None or names[number] == name


@pytest.mark.parametrize("linux_guest", [False, True])
def test_calls_of_another_architecture_kill(linux_guest: bool) -> None:
    program = allowed_syscalls.program(linux_guest)
    assert filter_result(program, 0, arch=0x4000_0003) == seccomp.KILL_PROCESS
