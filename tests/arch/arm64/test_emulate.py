# SPDX-License-Identifier: GPL-2.0-only
"""Carrying an instruction out against memory: what `complete` does, through the guest's tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.arch.arm64.emulate import changed_registers
from pyvmm.arch.arm64.vcpu_state import InstructionError
from tests.arch.arm64.stopped import SIZE, Memory, stopped_vcpu
from tests.arch.arm64.test_reconstruct import EL1H, LDP_X4_X5_X2, PC, doublewords, words

STP_X4_X5_X2 = 0xA9001444


class Log(Memory):
    """Memory that notes how it is accessed."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def read(self, gpa: int, size: int) -> bytes | None:
        self.sizes.append(size)
        return super().read(gpa, size)

    def write(self, gpa: int, data: bytes) -> bool:
        self.sizes.append(len(data))
        return super().write(gpa, data)


def done(word: int, **registers: int) -> tuple[dict[str, int], Log]:
    memory = Log()
    Memory.write(memory, PC, word.to_bytes(4, "little"))
    at = stopped_vcpu({"pc": PC, "pstate": EL1H, **registers}, memory)
    return changed_registers(at, memory), memory


def test_a_pair_is_loaded_and_stepped_past() -> None:
    changes, memory = done(LDP_X4_X5_X2, x2=PC)
    assert changes == {"x4": LDP_X4_X5_X2, "x5": 0, "pc": PC + 4}
    assert memory.sizes == [8, 8]


def test_what_crosses_a_page_is_two_accesses() -> None:
    _, memory = done(STP_X4_X5_X2, x2=0x2FFC, x4=0x1122_3344_5566_7788)
    assert memory.sizes == [4, 4, 8]
    assert memory.content[0x2FFC:0x3004] == 0x1122_3344_5566_7788.to_bytes(8, "little")


def test_where_nobody_is_says_so() -> None:
    with pytest.raises(InstructionError, match=f"no readable memory or device is at GPA {SIZE:#x}"):
        done(LDP_X4_X5_X2, x2=SIZE)


@given(word=words, x1=doublewords, x2=doublewords, sctlr=st.sampled_from([0, 1 << 25, 1 << 24]))
def test_it_changes_registers_or_says_why_not(word: int, x1: int, x2: int, sctlr: int) -> None:
    try:
        changes, memory = done(word, x1=x1, x2=x2, SCTLR_EL1=sctlr)
    except InstructionError:
        return
    assert changes["pc"] == PC + 4
    assert set(memory.sizes) <= {1, 2, 4, 8}
