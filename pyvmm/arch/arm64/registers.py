# SPDX-License-Identifier: GPL-2.0-only
"""Registers by name, and their one-reg ids.

Core registers have lower-case names (``x0``, ``pc``, ``spsr_el1``); system registers have the Arm
ARM's names (``TTBR0_EL1``). The stack pointer of EL1h is ``sp_el1``. A system register that is not
in `SYSREGS` is ``sys(op0,op1,crn,crm,op2)``. Other ids of ``KVM_GET_REG_LIST`` have names such as
``CCSIDR_EL1[0]``, ``fw[0]`` or ``sve[5]``, so that every id has a name.

For the format of ids see KVM_SET_ONE_REG in Documentation/virt/kvm/api.rst, "ARM registers are
mapped using the lower 32 bits".
"""

import re
from collections.abc import Iterator, Mapping

from pyvmm.arch.arm64.sysregs import SYSREGS
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.uapi import kvm_arm64 as uapi
from pyvmm.uapi.kvm import (
    KVM_REG_ARM64,
    KVM_REG_SIZE_U32,
    KVM_REG_SIZE_U64,
    KVM_REG_SIZE_U128,
)
from pyvmm.uapi.layout import Struct

_CORE = KVM_REG_ARM64 | uapi.KVM_REG_ARM_CORE
_SYSREG = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | uapi.KVM_REG_ARM64_SYSREG

_SYSREG_SHIFTS = (
    uapi.KVM_REG_ARM64_SYSREG_OP0_SHIFT,
    uapi.KVM_REG_ARM64_SYSREG_OP1_SHIFT,
    uapi.KVM_REG_ARM64_SYSREG_CRN_SHIFT,
    uapi.KVM_REG_ARM64_SYSREG_CRM_SHIFT,
    uapi.KVM_REG_ARM64_SYSREG_OP2_SHIFT,
)
_SYSREG_WIDTHS = (2, 3, 4, 4, 3)
_UNNAMED_SYSREG = re.compile(r"sys\((\d+),(\d+),(\d+),(\d+),(\d+)\)")

# Register groups whose members have only a number.
_GROUPS = {
    uapi.KVM_REG_ARM_DEMUX: "CCSIDR_EL1",  # indexed by CSSELR_EL1
    uapi.KVM_REG_ARM_FW: "fw",
    uapi.KVM_REG_ARM64_SVE: "sve",
    uapi.KVM_REG_ARM_FW_FEAT_BMAP: "fw_features",
}


def sysreg_id(op0: int, op1: int, crn: int, crm: int, op2: int) -> int:
    """Return a system register's one-reg id: ``ARM64_SYS_REG(op0, op1, crn, crm, op2)`` in C."""
    fields = zip((op0, op1, crn, crm, op2), _SYSREG_SHIFTS, strict=True)
    return _SYSREG | sum(value << shift for value, shift in fields)


def sysreg_encoding(register: int) -> tuple[int, ...]:
    """Return the (op0, op1, crn, crm, op2) of a system register's one-reg id."""
    fields = zip(_SYSREG_SHIFTS, _SYSREG_WIDTHS, strict=True)
    return tuple(register >> shift & ((1 << width) - 1) for shift, width in fields)


def _core_registers() -> Iterator[tuple[str, int]]:
    """Yield name and id of the members of ``struct kvm_regs``; ids have their offset in words."""

    def at(offset: int, size: int = KVM_REG_SIZE_U64) -> int:
        return _CORE | size | offset // 4

    regs, user, fp = uapi.kvm_regs, uapi.user_pt_regs, uapi.user_fpsimd_state
    for n in range(31):
        yield f"x{n}", at(_offset(user, "regs") + n * 8)
    yield "sp_el0", at(_offset(user, "sp"))
    yield "pc", at(_offset(user, "pc"))
    yield "pstate", at(_offset(user, "pstate"))
    yield "sp_el1", at(_offset(regs, "sp_el1"))
    yield "elr_el1", at(_offset(regs, "elr_el1"))
    for n, bank in enumerate(("el1", "abt", "und", "irq", "fiq")):
        yield f"spsr_{bank}", at(_offset(regs, "spsr") + n * 8)
    simd = _offset(regs, "fp_regs")
    for n in range(32):
        yield f"v{n}", at(simd + _offset(fp, "vregs") + n * 16, KVM_REG_SIZE_U128)
    yield "fpsr", at(simd + _offset(fp, "fpsr"), KVM_REG_SIZE_U32)
    yield "fpcr", at(simd + _offset(fp, "fpcr"), KVM_REG_SIZE_U32)


def _offset(struct: type[Struct], member: str) -> int:
    offset: int = getattr(struct, member).offset
    return offset


IDS: dict[str, int] = {
    **dict(_core_registers()),
    **{name: sysreg_id(*encoding) for name, encoding in SYSREGS.items()},
}
_NAMES = {register: name for name, register in IDS.items()}


def id_of(name: str) -> int:
    """Return the one-reg id of a register; raise `KeyError` for an unknown name."""
    if name in IDS:
        return IDS[name]
    if match := _UNNAMED_SYSREG.fullmatch(name):
        return sysreg_id(*map(int, match.groups()))
    raise KeyError(name)


def name_of(register: int) -> str:
    """Return the name of a one-reg id; for an unknown kind, the id in hex."""
    if register in _NAMES:
        return _NAMES[register]
    group = register & uapi.KVM_REG_ARM_COPROC_MASK
    number = register & 0xFFFF
    if group == uapi.KVM_REG_ARM64_SYSREG:
        return "sys({},{},{},{},{})".format(*sysreg_encoding(register))
    if group in _GROUPS:
        return f"{_GROUPS[group]}[{number}]"
    return f"{register:#x}"


def read(vcpu: Vcpu, name: str) -> int:
    """Return a register's unsigned value; raise `KeyError` for an unknown name."""
    return vcpu.get_one_reg(id_of(name))


def write(vcpu: Vcpu, values: Mapping[str, int]) -> None:
    """Set registers by name; raise `KeyError` for an unknown name before any is set."""
    for register, value in [(id_of(name), value) for name, value in values.items()]:
        vcpu.set_one_reg(register, value)
