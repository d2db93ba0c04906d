# SPDX-License-Identifier: GPL-2.0-only
"""Exits that KVM makes only if user space enabled a feature or created a VM of a special type."""

from dataclasses import dataclass
from typing import Self

from pyvmm.kvm.exits.base import Exit
from pyvmm.uapi import kvm as uapi
from pyvmm.uapi.native_arch import kvm_run


@dataclass(frozen=True)
class Debug(Exit):
    """A breakpoint, watchpoint or single step (``KVM_SET_GUEST_DEBUG``).

    `arch` maps the members of ``struct kvm_debug_exit_arch`` to their values.
    """

    reason = uapi.KVM_EXIT_DEBUG
    arch: dict[str, int]

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        """Copy the members that this architecture's struct has."""
        arch = run.debug.arch
        return cls({name: getattr(arch, name) for name in arch.members})


@dataclass(frozen=True)
class Hypercall(Exit):
    """A hypercall for user space: filtered arm64 SMCCC, x86 ``KVM_HC_MAP_GPA_RANGE``."""

    reason = uapi.KVM_EXIT_HYPERCALL
    payload = "hypercall"
    nr: int
    args: tuple[int, ...]
    flags: int


@dataclass(frozen=True)
class DirtyRingFull(Exit):
    """The vCPU's dirty ring is full; collect it before the next ``KVM_RUN``."""

    reason = uapi.KVM_EXIT_DIRTY_RING_FULL


@dataclass(frozen=True)
class Notify(Exit):
    """No event window within the notify window (x86); `flags` are ``KVM_NOTIFY_*``."""

    reason = uapi.KVM_EXIT_NOTIFY
    payload = "notify"
    flags: int


@dataclass(frozen=True)
class X86Rdmsr(Exit):
    """A read of a filtered or unknown MSR; `cause` is a ``KVM_MSR_EXIT_REASON_*``."""

    reason = uapi.KVM_EXIT_X86_RDMSR
    payload = "msr"
    index: int
    cause: int

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        """Copy ``kvm_run.msr``; its `reason` is called `cause`."""
        return cls(run.msr.index, run.msr.reason)


@dataclass(frozen=True)
class X86Wrmsr(Exit):
    """A write of `data` to a filtered or unknown MSR."""

    reason = uapi.KVM_EXIT_X86_WRMSR
    payload = "msr"
    index: int
    cause: int
    data: int

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        """Copy ``kvm_run.msr``; its `reason` is called `cause`."""
        return cls(run.msr.index, run.msr.reason, run.msr.data)


@dataclass(frozen=True)
class X86BusLock(Exit):
    """The guest acquired a bus lock."""

    reason = uapi.KVM_EXIT_X86_BUS_LOCK


@dataclass(frozen=True)
class IrqWindowOpen(Exit):
    """The guest can take an interrupt, as ``request_interrupt_window`` requested."""

    reason = uapi.KVM_EXIT_IRQ_WINDOW_OPEN


@dataclass(frozen=True)
class IoapicEoi(Exit):
    """The guest acknowledged a level-triggered interrupt of a split irqchip."""

    reason = uapi.KVM_EXIT_IOAPIC_EOI
    payload = "eoi"
    vector: int


@dataclass(frozen=True)
class TprAccess(Exit):
    """An access to the local APIC's task priority register at instruction `rip`."""

    reason = uapi.KVM_EXIT_TPR_ACCESS
    payload = "tpr_access"
    rip: int
    is_write: int


@dataclass(frozen=True)
class SetTpr(Exit):
    """The guest lowered its task priority (CR8)."""

    reason = uapi.KVM_EXIT_SET_TPR


@dataclass(frozen=True)
class GuestException(Exit):
    """An exception that KVM forwards to user space."""

    reason = uapi.KVM_EXIT_EXCEPTION
    payload = "ex"
    exception: int
    error_code: int


@dataclass(frozen=True)
class ApResetHold(Exit):
    """An SEV-ES vCPU waits for its INIT-SIPI."""

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
        """Copy ``kvm_run.xen.u.hcall``."""
        call = run.xen.u.hcall
        return cls(run.xen.type, call.cpl, call.input, tuple(call.params))


@dataclass(frozen=True)
class Hyperv(Exit):
    """A Hyper-V exit; `type` is a ``KVM_EXIT_HYPERV_*``, `raw` the bytes of its union."""

    reason = uapi.KVM_EXIT_HYPERV
    type: int
    raw: bytes

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        """Copy the type and the bytes of ``kvm_run.hyperv.u``."""
        return cls(run.hyperv.type, bytes(run.hyperv.u))


@dataclass(frozen=True)
class Tdx(Exit):
    """A TDX guest's TDVMCALL; `nr` is its leaf, `raw` the bytes of ``kvm_run.tdx``."""

    reason = uapi.KVM_EXIT_TDX
    flags: int
    nr: int
    raw: bytes

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        """Copy the flags, the leaf and all bytes of ``kvm_run.tdx``."""
        return cls(run.tdx.flags, run.tdx.nr, bytes(run.tdx))


@dataclass(frozen=True)
class SnpReqCerts(Exit):
    """An SEV-SNP guest requests certificates: up to `npages` pages at `gpa`."""

    reason = uapi.KVM_EXIT_SNP_REQ_CERTS
    payload = "snp_req_certs"
    gpa: int
    npages: int
    ret: int
