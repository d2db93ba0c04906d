# SPDX-License-Identifier: GPL-2.0-only
import struct

import pytest

from pyvmm.trace import launch
from pyvmm.trace.ptrace import SYSCALLS

ALLOW, TRACE = 0x7FFF_0000, 0x7FF0_0000


def filter_result(code: bytes, number: int, *args: int, arch: int = launch._ARCH) -> int:
    """Return the filter's result for a system call: interpret the BPF instructions that it uses."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *(*args, *[0] * (6 - len(args))))
    instructions = list(struct.iter_unpack("=HBBI", code))
    accumulator = at = 0
    while True:
        op, true, false, operand = instructions[at]
        at += 1
        match op:
            case 0x20:
                [accumulator] = struct.unpack_from("=I", data, operand)
            case 0x54:
                accumulator &= operand
            case 0x15:
                at += true if accumulator == operand else false
            case 0x06:
                return int(operand)
            case _:
                raise AssertionError(f"unexpected instruction {op:#x}")


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
