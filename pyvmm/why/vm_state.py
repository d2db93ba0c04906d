# SPDX-License-Identifier: GPL-2.0-only
"""The state of a VM and of a vCPU, as facts. Addresses and sizes are in bytes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VmState:
    """The state of a VM.

    Attributes:
        same_process: the caller created the VM; False if it was forked from the creator.
        dead: KVM marked the VM dead (kvm_vm_dead), and fails every ioctl on it.
    """

    same_process: bool = True
    dead: bool = False


@dataclass(frozen=True)
class Vgic:
    """The in-kernel GICv3 as the VMM set it up.

    KVM does not show it afterwards: a VM whose vGIC is incomplete at the first ``KVM_RUN`` is dead.

    Attributes:
        unplaced: the register frame without a GPA, or None.
        overlap: the register frames that overlap, with their GPAs, or None.
        initialised: ``KVM_DEV_ARM_VGIC_CTRL_INIT`` was set.
    """

    unplaced: str | None = None
    overlap: str | None = None
    initialised: bool = True


@dataclass(frozen=True)
class VcpuState:
    """The state of a vCPU and of its descriptor.

    Attributes:
        file: the file behind the descriptor, as /proc/PID/fd names it; "" if it is closed.
        initialised: it had a ``KVM_ARM_VCPU_INIT``.
        finalised: it needs no ``KVM_ARM_VCPU_FINALIZE``, or had it.
        immediate_exit: ``kvm_run.immediate_exit`` is set.
        has_pmu: it has ``KVM_ARM_VCPU_PMU_V3``.
        unknown_sync_regs: bits of ``kvm_run.kvm_valid_regs`` and ``kvm_dirty_regs`` that
            ``KVM_CAP_SYNC_REGS`` lacks.
        vgic: the in-kernel GICv3, or None.
    """

    file: str = "anon_inode:kvm-vcpu:0"
    initialised: bool = True
    finalised: bool = True
    immediate_exit: bool = False
    has_pmu: bool = False
    unknown_sync_regs: int = 0
    vgic: Vgic | None = None
