# SPDX-License-Identifier: GPL-2.0-only
"""A vCPU that stands on an instruction, with registers and memory made up: all pure data."""

from collections.abc import Mapping

from pyvmm.arch.arm64.registers import IDS
from pyvmm.arch.arm64.vcpu_state import StoppedVcpu

SIZE = 1 << 16  # of the memory, which lies at IPA 0


class Memory:
    """64 KiB of guest memory, and nothing above."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content.ljust(SIZE, b"\0"))

    def peek(self, gpa: int, size: int) -> bytes | None:
        return bytes(self.content[gpa : gpa + size]) if gpa + size <= SIZE else None

    def read(self, gpa: int, size: int) -> bytes | None:
        return self.peek(gpa, size)

    def write(self, gpa: int, data: bytes) -> bool:
        if gpa + len(data) > SIZE:
            return False
        self.content[gpa : gpa + len(data)] = data
        return True


def stopped_vcpu(registers: Mapping[str, int], memory: Memory) -> StoppedVcpu:
    """Registers that are not given are 0: the MMU is off, and the guest runs at EL0."""
    return StoppedVcpu({**dict.fromkeys(IDS, 0), **registers}, memory.peek)
