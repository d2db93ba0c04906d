# SPDX-License-Identifier: GPL-2.0-only
"""Registers by name: ``rax``, ``cr3``, ``cs.base``, ``gdt.limit``, ``pat``.

The names are those of the members of ``struct kvm_regs`` and ``struct kvm_sregs``, and for a few
MSRs the SDM's in lower case without ``IA32_``.
"""

from collections.abc import Mapping

from pyvmm.kvm.vcpu import Vcpu
from pyvmm.uapi.kvm_x86_64 import (
    KVM_GET_MSRS,
    KVM_GET_REGS,
    KVM_GET_SREGS,
    KVM_SET_MSRS,
    KVM_SET_REGS,
    KVM_SET_SREGS,
    kvm_msr_entry,
    kvm_msrs,
    kvm_regs,
    kvm_segment,
    kvm_sregs,
)

MSRS = {
    "pat": 0x277,
    "sysenter_cs": 0x174,
    "sysenter_esp": 0x175,
    "sysenter_eip": 0x176,
    "star": 0xC000_0081,
    "lstar": 0xC000_0082,
    "cstar": 0xC000_0083,
    "fmask": 0xC000_0084,
    "kernel_gs_base": 0xC000_0102,
}

_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")
_FIELDS = [member for member in kvm_segment.members if member != "padding"]
_TABLES = ("gdt", "idt")
_CONTROL = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base")
_SYSTEM = {
    *_CONTROL,
    *(f"{segment}.{member}" for segment in _SEGMENTS for member in _FIELDS),
    *(f"{table}.{member}" for table in _TABLES for member in ("base", "limit")),
}

NAMES = (*kvm_regs.members, *sorted(_SYSTEM), *MSRS)


def read(vcpu: Vcpu, name: str) -> int:
    """Return a register's value; raise `KeyError` for an unknown name."""
    if name in MSRS:
        return _get_msr(vcpu, MSRS[name])
    if name in _SYSTEM:
        holder, member = _place(get_sregs(vcpu), name)
    elif name in kvm_regs.members:
        holder, member = get_regs(vcpu), name
    else:
        raise KeyError(name)
    value: int = getattr(holder, member)
    return value


def write(vcpu: Vcpu, values: Mapping[str, int]) -> None:
    """Set registers by name: first all of ``struct kvm_sregs``, then MSRs and ``struct kvm_regs``.

    ``KVM_SET_SREGS`` checks its members together: ``efer.lme``, for one, depends on ``cr0.pg``.
    Raises `KeyError` for an unknown name before any is set, and `ValueError` if KVM rejects the
    value of an MSR.
    """
    if unknown := values.keys() - set(NAMES):
        raise KeyError(*unknown)
    system = {name: value for name, value in values.items() if name in _SYSTEM}
    general = {name: value for name, value in values.items() if name in kvm_regs.members}
    if system:
        sregs = get_sregs(vcpu)
        for name, value in system.items():
            holder, member = _place(sregs, name)
            setattr(holder, member, value)
        vcpu.ioctl(KVM_SET_SREGS, sregs)
    for name in values.keys() & MSRS.keys():
        _set_msr(vcpu, MSRS[name], values[name])
    if general:
        regs = get_regs(vcpu)
        for name, value in general.items():
            setattr(regs, name, value)
        vcpu.ioctl(KVM_SET_REGS, regs)


def get_regs(vcpu: Vcpu) -> kvm_regs:
    """Return the general-purpose registers, ``rip`` and ``rflags`` (``KVM_GET_REGS``)."""
    regs = kvm_regs()
    vcpu.ioctl(KVM_GET_REGS, regs)
    return regs


def get_sregs(vcpu: Vcpu) -> kvm_sregs:
    """Return segments, descriptor tables and control registers (``KVM_GET_SREGS``)."""
    sregs = kvm_sregs()
    vcpu.ioctl(KVM_GET_SREGS, sregs)
    return sregs


def _place(sregs: kvm_sregs, name: str) -> tuple[object, str]:
    """Return the struct and its member for a name."""
    part, dot, member = name.partition(".")
    return (getattr(sregs, part), member) if dot else (sregs, name)


def _get_msr(vcpu: Vcpu, index: int) -> int:
    msrs = _one_msr(index, 0)
    vcpu.ioctl(KVM_GET_MSRS, msrs)
    value: int = msrs.entries[0].data
    return value


def _set_msr(vcpu: Vcpu, index: int, value: int) -> None:
    # KVM_SET_MSRS returns the number of MSRs it set; a rejected MSR is not an error.
    if vcpu.ioctl(KVM_SET_MSRS, _one_msr(index, value)) != 1:
        raise ValueError(f"KVM rejects {value:#x} for MSR {index:#x}")


def _one_msr(index: int, value: int) -> kvm_msrs:
    msrs = kvm_msrs.with_room(1)(nmsrs=1)
    msrs.entries[0] = kvm_msr_entry(index=index, data=value)
    return msrs
