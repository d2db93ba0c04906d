# SPDX-License-Identifier: GPL-2.0-only
"""Exits that a VMM sees because of something it switched on."""

from dataclasses import dataclass
from typing import Self

from pyvmm.kvm.exits.base import Exit
from pyvmm.uapi import kvm as uapi
from pyvmm.uapi.native_arch import kvm_run


@dataclass(frozen=True)
class Debug(Exit):
    """A breakpoint, a watchpoint or a single step (``KVM_SET_GUEST_DEBUG``).

    `arch` holds the fields of ``struct kvm_debug_exit_arch`` by name.
    """

    reason = uapi.KVM_EXIT_DEBUG
    arch: dict[str, int]

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        arch = run.debug.arch
        return cls({name: getattr(arch, name) for name in arch.members})


@dataclass(frozen=True)
class Hypercall(Exit):
    """A hypercall that KVM passes on: arm64 SMCCC by filter, x86 ``KVM_HC_MAP_GPA_RANGE``."""

    reason = uapi.KVM_EXIT_HYPERCALL
    payload = "hypercall"
    nr: int
    args: tuple[int, ...]
    flags: int


@dataclass(frozen=True)
class DirtyRingFull(Exit):
    """The vCPU's dirty ring must be collected before it can go on."""

    reason = uapi.KVM_EXIT_DIRTY_RING_FULL


@dataclass(frozen=True)
class Notify(Exit):
    """No event window for too long, on x86; `flags` says whether the context is intact."""

    reason = uapi.KVM_EXIT_NOTIFY
    payload = "notify"
    flags: int


@dataclass(frozen=True)
class X86Rdmsr(Exit):
    """A filtered or unknown MSR was read."""

    reason = uapi.KVM_EXIT_X86_RDMSR
    payload = "msr"
    index: int
    cause: int

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        return cls(run.msr.index, run.msr.reason)


@dataclass(frozen=True)
class X86Wrmsr(Exit):
    """A filtered or unknown MSR was written."""

    reason = uapi.KVM_EXIT_X86_WRMSR
    payload = "msr"
    index: int
    cause: int
    data: int

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        return cls(run.msr.index, run.msr.reason, run.msr.data)


@dataclass(frozen=True)
class X86BusLock(Exit):
    """The guest took a bus lock."""

    reason = uapi.KVM_EXIT_X86_BUS_LOCK


@dataclass(frozen=True)
class IrqWindowOpen(Exit):
    """The guest can take the interrupt that user space asked a window for."""

    reason = uapi.KVM_EXIT_IRQ_WINDOW_OPEN


@dataclass(frozen=True)
class IoapicEoi(Exit):
    """The guest acknowledged a level interrupt of a split irqchip."""

    reason = uapi.KVM_EXIT_IOAPIC_EOI
    payload = "eoi"
    vector: int


@dataclass(frozen=True)
class TprAccess(Exit):
    """The guest touched the APIC's task priority register."""

    reason = uapi.KVM_EXIT_TPR_ACCESS
    payload = "tpr_access"
    rip: int
    is_write: int


@dataclass(frozen=True)
class SetTpr(Exit):
    """The guest lowered its task priority."""

    reason = uapi.KVM_EXIT_SET_TPR


@dataclass(frozen=True)
class GuestException(Exit):
    """An exception that KVM hands to user space."""

    reason = uapi.KVM_EXIT_EXCEPTION
    payload = "ex"
    exception: int
    error_code: int


@dataclass(frozen=True)
class Nmi(Exit):
    """A non-maskable interrupt of the host."""

    reason = uapi.KVM_EXIT_NMI


@dataclass(frozen=True)
class Watchdog(Exit):
    """The guest's watchdog ran out."""

    reason = uapi.KVM_EXIT_WATCHDOG


@dataclass(frozen=True)
class ApResetHold(Exit):
    """An SEV-ES vCPU waits for its start-up interrupt."""

    reason = uapi.KVM_EXIT_AP_RESET_HOLD


@dataclass(frozen=True)
class Xen(Exit):
    """A Xen hypercall; `type` is a ``KVM_EXIT_XEN_*``."""

    reason = uapi.KVM_EXIT_XEN
    type: int
    cpl: int
    input: int
    params: tuple[int, ...]

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        call = run.xen.u.hcall
        return cls(run.xen.type, call.cpl, call.input, tuple(call.params))


@dataclass(frozen=True)
class Hyperv(Exit):
    """A Hyper-V exit; `type` is a ``KVM_EXIT_HYPERV_*`` and `raw` its part of the union."""

    reason = uapi.KVM_EXIT_HYPERV
    type: int
    raw: bytes

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        return cls(run.hyperv.type, bytes(run.hyperv.u))


@dataclass(frozen=True)
class Tdx(Exit):
    """A TDX guest's call; `nr` is its leaf and `raw` its part of the union."""

    reason = uapi.KVM_EXIT_TDX
    flags: int
    nr: int
    raw: bytes

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        return cls(run.tdx.flags, run.tdx.nr, bytes(run.tdx))


@dataclass(frozen=True)
class SnpReqCerts(Exit):
    """An SEV-SNP guest asks for certificates, to be put at `gpa`."""

    reason = uapi.KVM_EXIT_SNP_REQ_CERTS
    payload = "snp_req_certs"
    gpa: int
    npages: int
    ret: int
