# SPDX-License-Identifier: GPL-2.0-only
"""An interpreter of the BPF instructions that `pyvmm.seccomp` uses."""

import struct

from pyvmm import seccomp


def filter_result(code: bytes, number: int, *args: int, arch: int = seccomp.ARCH) -> int:
    """Return the filter's result for a system call."""
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
