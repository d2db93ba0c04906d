# SPDX-License-Identifier: GPL-2.0-only
"""The exits of other architectures, which the headers name too."""

from dataclasses import dataclass
from typing import Self

from pyvmm.kvm.exits.base import Exit
from pyvmm.uapi import kvm as uapi
from pyvmm.uapi.native_arch import kvm_run


@dataclass(frozen=True)
class S390Sieic(Exit):
    """s390: an intercepted instruction."""

    reason = uapi.KVM_EXIT_S390_SIEIC
    payload = "s390_sieic"
    icptcode: int
    ipa: int
    ipb: int


@dataclass(frozen=True)
class S390Reset(Exit):
    """s390: the guest asked for a reset."""

    reason = uapi.KVM_EXIT_S390_RESET
    flags: int

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        return cls(run.s390_reset_flags)


@dataclass(frozen=True)
class S390Ucontrol(Exit):
    """s390: a fault in a user-controlled virtual machine."""

    reason = uapi.KVM_EXIT_S390_UCONTROL
    payload = "s390_ucontrol"
    trans_exc_code: int
    pgm_code: int


@dataclass(frozen=True)
class S390Tsch(Exit):
    """s390: TEST SUBCHANNEL."""

    reason = uapi.KVM_EXIT_S390_TSCH
    payload = "s390_tsch"
    subchannel_id: int
    subchannel_nr: int
    io_int_parm: int
    io_int_word: int
    ipb: int
    dequeued: int


@dataclass(frozen=True)
class S390Stsi(Exit):
    """s390: STORE SYSTEM INFORMATION."""

    reason = uapi.KVM_EXIT_S390_STSI
    payload = "s390_stsi"
    addr: int
    ar: int
    fc: int
    sel1: int
    sel2: int


@dataclass(frozen=True)
class Dcr(Exit):
    """PowerPC: a device control register (deprecated)."""

    reason = uapi.KVM_EXIT_DCR
    payload = "dcr"
    dcrn: int
    data: int
    is_write: int


@dataclass(frozen=True)
class Osi(Exit):
    """PowerPC: an OSI hypercall."""

    reason = uapi.KVM_EXIT_OSI
    payload = "osi"
    gprs: tuple[int, ...]


@dataclass(frozen=True)
class PaprHcall(Exit):
    """PowerPC: a PAPR hypercall."""

    reason = uapi.KVM_EXIT_PAPR_HCALL
    payload = "papr_hcall"
    nr: int
    args: tuple[int, ...]


@dataclass(frozen=True)
class Epr(Exit):
    """PowerPC: an external proxy interrupt is to be fetched."""

    reason = uapi.KVM_EXIT_EPR
    payload = "epr"
    epr: int


@dataclass(frozen=True)
class LoongarchIocsr(Exit):
    """LoongArch: an access to an IOCSR; `size` in bytes."""

    reason = uapi.KVM_EXIT_LOONGARCH_IOCSR
    address: int
    size: int
    write: bool
    value: int

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        access = run.iocsr_io
        value = int.from_bytes(access.data[: access.len], "little")
        return cls(access.phys_addr, access.len, bool(access.is_write), value)


@dataclass(frozen=True)
class RiscvSbi(Exit):
    """RISC-V: an SBI call."""

    reason = uapi.KVM_EXIT_RISCV_SBI
    payload = "riscv_sbi"
    extension_id: int
    function_id: int
    args: tuple[int, ...]


@dataclass(frozen=True)
class RiscvCsr(Exit):
    """RISC-V: an access to a CSR."""

    reason = uapi.KVM_EXIT_RISCV_CSR
    payload = "riscv_csr"
    csr_num: int
    new_value: int
    write_mask: int
