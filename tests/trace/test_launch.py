# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.seccomp import ALLOW, I386, TRACE
from pyvmm.trace import launch
from pyvmm.trace.ptrace import SYSCALLS
from tests.bpf import filter_result

[CODE, *I386_CODE] = launch.filter_programs(("ioctl", "close", "mmap"))
KVM_RUN, VFIO, TCGETS = 0xAE80, 0x3B64, 0x5401


@pytest.mark.parametrize(
    ("number", "args", "expected"),
    [
        pytest.param(SYSCALLS["ioctl"], (3, KVM_RUN), TRACE, id="KVM"),
        pytest.param(SYSCALLS["ioctl"], (3, 0x4020AE46), TRACE, id="KVM with a struct"),
        pytest.param(SYSCALLS["ioctl"], (3, VFIO), TRACE, id="vfio, iommufd"),
        pytest.param(SYSCALLS["ioctl"], (3, KVM_RUN | 7 << 32), TRACE, id="upper 32 bits set"),
        pytest.param(SYSCALLS["ioctl"], (3, TCGETS), ALLOW, id="terminal ioctl"),
        pytest.param(SYSCALLS["close"], (3,), TRACE, id="traced"),
        pytest.param(SYSCALLS["write"], (1,), ALLOW, id="not traced"),
    ],
)
def test_filter_stops_at_traced_calls(number: int, args: tuple[int, ...], expected: int) -> None:
    assert filter_result(CODE, number, *args) == expected


def test_filter_allows_other_architectures() -> None:
    assert filter_result(CODE, SYSCALLS["ioctl"], 3, KVM_RUN, arch=I386) == ALLOW


@pytest.mark.skipif(not I386_CODE, reason="needs x86-64: arm64 has no i386 system calls")
@pytest.mark.parametrize(
    ("number", "args", "expected"),
    [
        pytest.param(54, (3, KVM_RUN), TRACE, id="KVM"),
        pytest.param(54, (3, TCGETS), ALLOW, id="terminal ioctl"),
        pytest.param(6, (3,), TRACE, id="close"),
        pytest.param(192, (), TRACE, id="mmap2"),
        pytest.param(4, (1,), ALLOW, id="not traced"),
    ],
)
def test_filter_stops_at_traced_i386_calls(
    number: int, args: tuple[int, ...], expected: int
) -> None:
    assert filter_result(I386_CODE[0], number, *args, arch=I386) == expected
    assert filter_result(I386_CODE[0], number, *args) == ALLOW
