# SPDX-License-Identifier: GPL-2.0-only
"""An oracle: Unicorn, QEMU's AArch64 translator, executes one instruction.

It shares no code with pyvmm. If both agree on every accessed byte, every register and all memory,
the instruction was decoded correctly.
"""

from dataclasses import dataclass, field

from unicorn import (
    UC_ARCH_ARM64,
    UC_HOOK_INTR,
    UC_HOOK_MEM_READ,
    UC_HOOK_MEM_WRITE,
    UC_MEM_WRITE,
    UC_MODE_ARM,
    Uc,
    UcError,
)
from unicorn import arm64_const as uc

ARENA, ARENA_SIZE = 0x1000_0000, 0x40_0000
CODE = ARENA + ARENA_SIZE // 2
DATA = CODE + ARENA_SIZE // 4
STORES = range(DATA - 0x2_0000, DATA + 0x2_0000)  # the range for writes

# Unicorn's register numbers; PSTATE is EL1h with the flags clear.
_NUMBERS = {
    **{f"x{n}": getattr(uc, f"UC_ARM64_REG_X{n}") for n in range(31)},
    **{f"v{n}": getattr(uc, f"UC_ARM64_REG_Q{n}") for n in range(32)},
    "sp_el1": uc.UC_ARM64_REG_SP,
    "pc": uc.UC_ARM64_REG_PC,
}
_EL1H = 0b0101
_FP_EL1_EL0 = 0b11 << 20

_MRS_X0 = {"CTR_EL0": 0xD53B0020, "DCZID_EL0": 0xD53B00E0}


@dataclass
class OracleRun:
    """The effects of one instruction; `memory` is the content of `STORES` afterwards."""

    refused: bool
    read: set[int] = field(default_factory=set)
    written: set[int] = field(default_factory=set)
    registers: dict[str, int] = field(default_factory=dict)
    memory: bytes = b""


class Oracle:
    """An emulated CPU with 4 MiB of memory, which each run restores."""

    def __init__(self) -> None:
        self._cpu = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
        self._cpu.ctl_set_cpu_model(uc.UC_CPU_ARM64_MAX)
        self._cpu.mem_map(ARENA, ARENA_SIZE)
        self._cpu.reg_write(uc.UC_ARM64_REG_CPACR_EL1, _FP_EL1_EL0)
        self._cpu.hook_add(UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, self._accessed)
        self._cpu.hook_add(UC_HOOK_INTR, self._interrupted)
        self._outcome = OracleRun(refused=False)
        self.pattern = bytes(n * 73 + (n >> 8) * 29 + 0x85 & 0xFF for n in range(ARENA_SIZE))
        self._cpu.mem_write(ARENA, self.pattern)
        self.constants = {name: self._constant(word) for name, word in _MRS_X0.items()}

    def run(self, word: int, registers: dict[str, int], *, before: int | None = None) -> OracleRun:
        """Run `word` at `CODE`, after `before` (a load-exclusive), with these registers."""
        self._load(registers)
        if before is not None:
            self._step(before)
            self._load(registers)
        outcome = self._step(word)
        outcome.registers = {name: self._cpu.reg_read(n) for name, n in _NUMBERS.items()}
        outcome.memory = bytes(self._cpu.mem_read(STORES.start, len(STORES)))
        for address in outcome.written:
            self._cpu.mem_write(address, self.pattern[address - ARENA :][:1])
        return outcome

    def _load(self, registers: dict[str, int]) -> None:
        for name, number in _NUMBERS.items():
            self._cpu.reg_write(number, registers[name])

    def _step(self, word: int) -> OracleRun:
        self._outcome = OracleRun(refused=False)
        self._cpu.mem_write(CODE, word.to_bytes(4, "little"))
        self._cpu.ctl_remove_cache(CODE, CODE + 4)
        try:
            self._cpu.emu_start(CODE, 0, count=1)
        except UcError:
            self._outcome.refused = True
        self._cpu.mem_write(CODE, self.pattern[CODE - ARENA :][:4])
        return self._outcome

    def _constant(self, word: int) -> int:
        self._step(word)
        return int(self._cpu.reg_read(uc.UC_ARM64_REG_X0))

    def _accessed(self, _: Uc, kind: int, va: int, size: int, *__: object) -> None:
        accessed = range(va, va + size)
        (self._outcome.written if kind == UC_MEM_WRITE else self._outcome.read).update(accessed)

    def _interrupted(self, cpu: Uc, *_: object) -> None:
        self._outcome.refused = True
        cpu.emu_stop()
