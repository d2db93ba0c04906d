# SPDX-License-Identifier: GPL-2.0-only
"""Registers by name, and the one-reg ids that KVM knows them by.

Core registers have lower-case names (``x0``, ``pc``, ``spsr_el1``), system registers the Arm
ARM's (``TTBR0_EL1``). The stack pointer of EL1h is ``sp_el1``. A system register without a name
here is ``sys(op0,op1,crn,crm,op2)``, and other ids that ``KVM_GET_REG_LIST`` returns have names
such as ``CCSIDR_EL1[0]``, ``fw[0]`` or ``sve[5]``, so that every id has one.

The ids' format: Documentation/virt/kvm/api.rst, KVM_SET_ONE_REG, "ARM registers are mapped
using the lower 32 bits".
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

# The groups whose registers have numbers only.
_GROUPS = {
    uapi.KVM_REG_ARM_DEMUX: "CCSIDR_EL1",  # by the value of CSSELR_EL1
    uapi.KVM_REG_ARM_FW: "fw",
    uapi.KVM_REG_ARM64_SVE: "sve",
    uapi.KVM_REG_ARM_FW_FEAT_BMAP: "fw_features",
}


def sysreg_id(op0: int, op1: int, crn: int, crm: int, op2: int) -> int:
    """The one-reg id of a system register: C's ``ARM64_SYS_REG(op0, op1, crn, crm, op2)``."""
    fields = zip((op0, op1, crn, crm, op2), _SYSREG_SHIFTS, strict=True)
    return _SYSREG | sum(value << shift for value, shift in fields)


def sysreg_encoding(register: int) -> tuple[int, ...]:
    """The (op0, op1, crn, crm, op2) of a system register's one-reg id."""
    fields = zip(_SYSREG_SHIFTS, _SYSREG_WIDTHS, strict=True)
    return tuple(register >> shift & ((1 << width) - 1) for shift, width in fields)


def _core_registers() -> Iterator[tuple[str, int]]:
    """Name and id of what ``struct kvm_regs`` holds: an id is the member's offset in words."""

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
    """The one-reg id of a register. Raises `KeyError` where there is none of that name."""
    if name in IDS:
        return IDS[name]
    if match := _UNNAMED_SYSREG.fullmatch(name):
        return sysreg_id(*map(int, match.groups()))
    raise KeyError(name)


def name_of(register: int) -> str:
    """The name of a one-reg id; never fails: an id of no known kind is its own hex number."""
    if register in _NAMES:
        return _NAMES[register]
    group = register & uapi.KVM_REG_ARM_COPROC_MASK
    number = register & 0xFFFF
    if group == uapi.KVM_REG_ARM64_SYSREG:
        return "sys({},{},{},{},{})".format(*sysreg_encoding(register))
    if group in _GROUPS:
        return f"{_GROUPS[group]}[{number}]"
    return f"{register:#x}"


def names(vcpu: Vcpu) -> dict[str, int]:
    """Name and id of every register that this vCPU has (``KVM_GET_REG_LIST``)."""
    return {name_of(register): register for register in vcpu.reg_list()}


def read(vcpu: Vcpu, name: str) -> int:
    """The register's value, unsigned. Raises `KeyError` where there is none of that name."""
    return vcpu.get_one_reg(id_of(name))


def write(vcpu: Vcpu, values: Mapping[str, int]) -> None:
    """Set registers. Raises `KeyError` for a name that there is not, before any is set."""
    for register, value in [(id_of(name), value) for name, value in values.items()]:
        vcpu.set_one_reg(register, value)
