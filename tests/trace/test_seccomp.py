# SPDX-License-Identifier: GPL-2.0-only
import struct

import pytest

from pyvmm.trace import seccomp
from pyvmm.trace.ptrace import NUMBERS

ALLOW, TRACE = 0x7FFF_0000, 0x7FF0_0000


def verdict(code: bytes, number: int, *args: int, arch: int = seccomp._ARCH) -> int:
    """What the program returns for a call: classic BPF, as far as these programs use it."""
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


CODE = seccomp.program(("ioctl", "close", "mmap"))
KVM_RUN, VFIO, TCGETS = 0xAE80, 0x3B64, 0x5401


@pytest.mark.parametrize(
    ("number", "args", "expected"),
    [
        pytest.param(NUMBERS["ioctl"], (3, KVM_RUN), TRACE, id="KVM"),
        pytest.param(NUMBERS["ioctl"], (3, 0x4020AE46), TRACE, id="KVM with a struct"),
        pytest.param(NUMBERS["ioctl"], (3, VFIO), TRACE, id="vfio, iommufd"),
        pytest.param(NUMBERS["ioctl"], (3, KVM_RUN | 7 << 32), TRACE, id="rubbish above 32 bits"),
        pytest.param(NUMBERS["ioctl"], (3, TCGETS), ALLOW, id="a terminal's"),
        pytest.param(NUMBERS["close"], (3,), TRACE, id="watched"),
        pytest.param(NUMBERS["write"], (1,), ALLOW, id="not watched"),
    ],
)
def test_what_stops(number: int, args: tuple[int, ...], expected: int) -> None:
    assert verdict(CODE, number, *args) == expected


def test_calls_of_another_architecture_run_free() -> None:
    assert verdict(CODE, NUMBERS["ioctl"], 3, KVM_RUN, arch=0x4000_0003) == ALLOW
