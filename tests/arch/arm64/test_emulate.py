# SPDX-License-Identifier: GPL-2.0-only
"""Emulating an instruction against guest memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.arch.arm64.emulate import changed_registers
from pyvmm.arch.arm64.vcpu_state import InstructionError
from tests.arch.arm64.stopped import SIZE, Memory, stopped_vcpu
from tests.arch.arm64.test_reconstruct import EL1H, LDP_X4_X5_X2, PC, doublewords, words

STP_X4_X5_X2 = 0xA9001444


class LoggedMemory(Memory):
    """Memory that records the size of each access."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def read(self, gpa: int, size: int) -> bytes | None:
        self.sizes.append(size)
        return super().read(gpa, size)

    def write(self, gpa: int, data: bytes) -> bool:
        self.sizes.append(len(data))
        return super().write(gpa, data)


def emulated(word: int, **registers: int) -> tuple[dict[str, int], LoggedMemory]:
    memory = LoggedMemory()
    Memory.write(memory, PC, word.to_bytes(4, "little"))
    vcpu = stopped_vcpu({"pc": PC, "pstate": EL1H, **registers}, memory)
    return changed_registers(vcpu, memory), memory


def test_a_pair_is_loaded_and_the_pc_advances() -> None:
    changes, memory = emulated(LDP_X4_X5_X2, x2=PC)
    assert changes == {"x4": LDP_X4_X5_X2, "x5": 0, "pc": PC + 4}
    assert memory.sizes == [8, 8]


def test_an_element_across_pages_is_two_accesses() -> None:
    _, memory = emulated(STP_X4_X5_X2, x2=0x2FFC, x4=0x1122_3344_5566_7788)
    assert memory.sizes == [4, 4, 8]
    assert memory.content[0x2FFC:0x3004] == 0x1122_3344_5566_7788.to_bytes(8, "little")


def test_an_address_without_memory_is_an_error() -> None:
    with pytest.raises(InstructionError, match=f"no readable memory or device is at GPA {SIZE:#x}"):
        emulated(LDP_X4_X5_X2, x2=SIZE)


@given(word=words, x1=doublewords, x2=doublewords, sctlr=st.sampled_from([0, 1 << 25, 1 << 24]))
def test_every_instruction_executes_or_fails_with_a_reason(
    word: int, x1: int, x2: int, sctlr: int
) -> None:
    try:
        changes, memory = emulated(word, x1=x1, x2=x2, SCTLR_EL1=sctlr)
    except InstructionError:
        return
    assert changes["pc"] == PC + 4
    assert set(memory.sizes) <= {1, 2, 4, 8}
