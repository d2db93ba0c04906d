# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.seccomp import ALLOW, TRACE
from pyvmm.trace import launch
from pyvmm.trace.ptrace import SYSCALLS
from tests.bpf import filter_result

CODE = launch.filter_program(("ioctl", "close", "mmap"))
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
    assert filter_result(CODE, SYSCALLS["ioctl"], 3, KVM_RUN, arch=0x4000_0003) == ALLOW
