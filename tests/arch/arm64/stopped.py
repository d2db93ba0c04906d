# SPDX-License-Identifier: GPL-2.0-only
"""A stopped vCPU with given registers and memory, without KVM."""

from collections.abc import Mapping

from pyvmm.arch.arm64.registers import IDS
from pyvmm.arch.arm64.vcpu_state import StoppedVcpu

SIZE = 1 << 16


class Memory:
    """64 KiB of guest memory at IPA 0."""

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
    """Return a vCPU whose other registers are 0: the MMU is off and the guest runs at EL0."""
    return StoppedVcpu({**dict.fromkeys(IDS, 0), **registers}, memory.peek)
