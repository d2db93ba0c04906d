# SPDX-License-Identifier: GPL-2.0-only
"""A vCPU that stands on an instruction: its registers, its translation, and that instruction."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pyvmm.arch.architecture import Vcpu
from pyvmm.arch.arm64.a64.access import INSTRUCTION_SIZE
from pyvmm.arch.arm64.a64.disassemble import disassemble
from pyvmm.arch.arm64.bits import bit, bits
from pyvmm.arch.arm64.dczid import dczid_el0
from pyvmm.arch.arm64.permissions import Permission
from pyvmm.arch.arm64.regime import Regime
from pyvmm.arch.arm64.registers import read
from pyvmm.arch.arm64.walk import Translation, WalkFailure, walk
from pyvmm.arch.faulting import Peek
from pyvmm.errors import LackingError

# Not every CPU has these; KVM then knows no such register.
_OPTIONAL = ("TCR2_EL1", "PIR_EL1", "PIRE0_EL1")
_REGIME = ("SCTLR_EL1", "TCR_EL1", "TTBR0_EL1", "TTBR1_EL1", "MAIR_EL1", "ID_AA64MMFR0_EL1")


class Untold(Exception):
    """Something that cannot be told of the vCPU; the text says what, and why."""


class Registers(dict[str, int]):
    """A vCPU's registers by name, each read once, when it is first asked for."""

    def __init__(self, vcpu: Vcpu) -> None:
        super().__init__()
        self._vcpu = vcpu

    def __missing__(self, name: str) -> int:
        try:
            value = dczid_el0() if name == "DCZID_EL0" else read(self._vcpu, name)
        except OSError as error:
            if name not in _OPTIONAL:
                raise Untold(f"{name} cannot be read: {error.strerror}") from None
            value = 0
        self[name] = value
        return value


@dataclass(frozen=True)
class Instruction:
    """An instruction `word` at GVA `pc`; it is disassembled when it is printed, and not before.

    While a fault is looked into, nothing may be mapped that need not be: it could come to lie
    where the guest's memory has gone missing. Loading capstone maps a lot.
    """

    word: int
    pc: int

    def __str__(self) -> str:
        try:
            return disassemble(self.word, self.pc)
        except LackingError:
            return f".inst {self.word:#010x}"


class Suspended:
    """What a vCPU was about to do. It must not run for as long as this is used."""

    def __init__(self, registers: Mapping[str, int], peek: Peek) -> None:
        """`peek` reads guest physical memory, for tables and instructions."""
        self.registers = registers
        self._peek = peek

    @property
    def pc(self) -> int:
        return self.registers["pc"]

    @property
    def aarch32(self) -> bool:
        """PSTATE.M[4]: the guest runs AArch32 code, at EL0."""
        return bool(bit(self.registers["pstate"], 4))

    @property
    def el0(self) -> bool:
        return bits(self.registers["pstate"], 3, 0) == 0

    @property
    def big_endian(self) -> bool:
        """SCTLR_EL1.EE or E0E: data is big-endian. Instructions never are."""
        return bool(bit(self.registers["SCTLR_EL1"], 24 if self.el0 else 25))

    @cached_property
    def regime(self) -> Regime:
        names = (*_REGIME, *_OPTIONAL)
        return Regime(**{name.lower(): self.registers[name] for name in names})

    def translate(self, va: int, *, fetch: bool = False) -> Translation | WalkFailure:
        """Where stage 1 takes `va`.

        No permissions are checked: had stage 1 refused, the guest would have the exception, and
        not KVM the fault.
        """
        need = Permission.EXECUTE if fetch else Permission.NONE
        return walk(self.regime, va, self._peek, need=need, el0=self.el0)

    def word(self, ipa: int) -> int | None:
        """The instruction at an IPA, or None where it cannot be read."""
        raw = self._peek(ipa, INSTRUCTION_SIZE)
        return None if raw is None else int.from_bytes(raw, "little")
