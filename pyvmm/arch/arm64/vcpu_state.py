# SPDX-License-Identifier: GPL-2.0-only
"""A stopped vCPU: its registers, its stage-1 translation and the instruction at its PC."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pyvmm.arch.arm64.a64.access import INSTRUCTION_SIZE
from pyvmm.arch.arm64.a64.decode import decode
from pyvmm.arch.arm64.a64.disassemble import disassemble
from pyvmm.arch.arm64.a64.operation import NoAccess, Operation, Undecodable
from pyvmm.arch.arm64.bits import bit, bits
from pyvmm.arch.arm64.dczid import dczid_el0
from pyvmm.arch.arm64.permissions import Permission
from pyvmm.arch.arm64.regime import Regime
from pyvmm.arch.arm64.registers import read
from pyvmm.arch.arm64.walk import WalkFailure, WalkOutput, walk
from pyvmm.arch.guest_access import Peek
from pyvmm.errors import LackingError
from pyvmm.kvm.vcpu import Vcpu

# Registers of optional extensions. KVM_GET_ONE_REG fails for them on a CPU without the extension.
_PERMISSIONS = ("TCR2_EL1", "PIR_EL1", "PIRE0_EL1")
_OPTIONAL = (*_PERMISSIONS, "HCR_EL2")
_HCR_VM, _HCR_DC, _HCR_TGE = 0, 12, 27  # bits of HCR_EL2
_REGIME = ("SCTLR_EL1", "TCR_EL1", "TTBR0_EL1", "TTBR1_EL1", "MAIR_EL1", "ID_AA64MMFR0_EL1")


class InstructionError(Exception):
    """The instruction at the PC cannot be decoded or emulated; the text says why."""


class CachedRegisters(dict[str, int]):
    """A vCPU's registers by name. Each is read from KVM on first use and then cached."""

    def __init__(self, vcpu: Vcpu) -> None:
        """Start with an empty cache."""
        super().__init__()
        self._vcpu = vcpu

    def __missing__(self, name: str) -> int:
        """Read and cache a register; raise `InstructionError` if KVM refuses."""
        try:
            value = dczid_el0() if name == "DCZID_EL0" else read(self._vcpu, name)
        except OSError as error:
            if name not in _OPTIONAL:
                raise InstructionError(f"{name} cannot be read: {error.strerror}") from None
            value = 0
        self[name] = value
        return value


@dataclass(frozen=True)
class Instruction:
    """The instruction `word` at GVA `pc`, disassembled only when it is printed.

    A new host mapping made while a fault is being explained could land in the hole that caused
    the fault. Loading capstone makes many mappings.
    """

    word: int
    pc: int

    def __str__(self) -> str:
        """Return the assembly, or ``.inst`` if capstone is not installed."""
        try:
            return disassemble(self.word, self.pc)
        except LackingError:
            return f".inst {self.word:#010x}"


class StoppedVcpu:
    """The state of a vCPU between two ``KVM_RUN`` calls. It must not run while this is in use."""

    def __init__(self, registers: Mapping[str, int], peek: Peek) -> None:
        """Use `peek` to read guest physical memory: tables and instructions."""
        self.registers = registers
        self._peek = peek

    @property
    def pc(self) -> int:
        """Return the GVA of the instruction."""
        return self.registers["pc"]

    @property
    def aarch32(self) -> bool:
        """Return True if the guest runs AArch32 code at EL0 (PSTATE.M[4])."""
        return bool(bit(self.registers["pstate"], 4))

    @property
    def el0(self) -> bool:
        """Return True if the guest runs at EL0 (PSTATE.M[3:0])."""
        return bits(self.registers["pstate"], 3, 0) == 0

    @property
    def big_endian(self) -> bool:
        """Return True if data accesses are big-endian (SCTLR_EL1.EE or E0E).

        Instructions are always little-endian.
        """
        return bool(bit(self.registers["SCTLR_EL1"], 24 if self.el0 else 25))

    @cached_property
    def regime(self) -> Regime:
        """Return the registers that control stage 1."""
        names = (*_REGIME, *_PERMISSIONS)
        return Regime(**{name.lower(): self.registers[name] for name in names})

    def translate(self, va: int, *, fetch: bool = False) -> WalkOutput | WalkFailure:
        """Translate `va` to an IPA by stage 1.

        A fetch needs execute permission. The permissions of data accesses are not checked: if
        stage 1 denied one, the guest would have taken the exception and KVM would not have seen
        a fault. Raises `InstructionError` in another regime than EL1&0.
        """
        if obstacle := self._other_regime():
            raise InstructionError(f"the address is not known: {obstacle}")
        need = Permission.EXECUTE if fetch else Permission.NONE
        return walk(self.regime, va, self._peek, need=need, el0=self.el0)

    def _other_regime(self) -> str | None:
        """Return why EL1's registers do not translate the guest's addresses to IPAs, or None.

        A vCPU without EL2 has no HCR_EL2, and counts as having 0 there.
        """
        if bits(self.registers["pstate"], 3, 2) == 2 and not self.aarch32:
            return "the vCPU runs at EL2 (nested virtualization)"
        hcr = self.registers["HCR_EL2"]
        if self.el0 and bit(hcr, _HCR_TGE):
            return "the vCPU runs in EL2's regime (HCR_EL2.TGE, nested virtualization)"
        if bit(hcr, _HCR_VM) or bit(hcr, _HCR_DC):
            return "the vCPU runs a nested guest, which has a stage 2 of its own (HCR_EL2.VM or DC)"
        return None

    def translate_pc(self) -> WalkOutput | WalkFailure:
        """Translate the PC for an A64 fetch.

        Raises `InstructionError` in AArch32 state, and for a PC that is not aligned.
        """
        if self.aarch32:
            raise InstructionError("the guest runs AArch32 code, which is not decoded")
        if self.pc % INSTRUCTION_SIZE:
            raise InstructionError("the PC is not aligned: the guest takes a PC alignment fault")
        return self.translate(self.pc, fetch=True)

    def word(self, ipa: int) -> int:
        """Return the instruction word at an IPA; raise `InstructionError` if it is unreadable."""
        raw = self._peek(ipa, INSTRUCTION_SIZE)
        if raw is None:
            raise InstructionError("the instruction itself cannot be read from guest memory")
        return int.from_bytes(raw, "little")


def translate(vcpu: Vcpu, va: int, peek: Peek) -> WalkOutput | WalkFailure:
    """Translate `va` to an IPA by the stage 1 of a stopped vCPU, with EL1's permissions."""
    return walk(StoppedVcpu(CachedRegisters(vcpu), peek).regime, va, peek)


def operation_of(word: int) -> Operation:
    """Decode an instruction that accesses memory; raise `InstructionError` for any other."""
    match decode(word):
        case NoAccess(why):
            raise InstructionError(f"the instruction accesses no memory ({why})")
        case Undecodable() as undecodable:
            raise InstructionError(str(undecodable))
        case operation:
            return operation
