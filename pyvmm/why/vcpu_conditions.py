# SPDX-License-Identifier: GPL-2.0-only
"""The conditions of ``KVM_RUN`` on the state of the VM, of the vCPU and of its descriptor.

The order is the kernel's: ioctl(2), kvm_vcpu_ioctl in virt/kvm/kvm_main.c, then on arm64
kvm_arch_vcpu_run_pid_change in arch/arm64/kvm/arm.c with kvm_vgic_map_resources, and the
architecture's kvm_arch_vcpu_ioctl_run. A VM whose vGIC is incomplete is dead after the first
``KVM_RUN``: each later ioctl on it fails with EIO.
"""

import errno

from pyvmm.why.condition import Broken, Condition, Unseen, inferred, known
from pyvmm.why.facts import AccessFacts, Facts

ANOTHER_PROCESS = "the caller's address space is not the one that created the VM"
VM_DEAD = "KVM marked the VM dead after an earlier failure"

_PID_CHANGE = "kvm_arch_vcpu_run_pid_change (arch/arm64/kvm/arm.c)"
_VGIC = "vgic_v3_map_resources (arch/arm64/kvm/vgic/vgic-v3.c)"


def another_process(f: Facts) -> Broken | None:
    """Test for a process that was forked from the one that created the VM."""
    if f.vm_state.same_process:
        return None
    return known(
        "this process was forked from the one that created the VM, and KVM accepts ioctls only "
        "from that one's address space: create a VM in this process"
    )


def vm_dead(f: Facts) -> Broken | None:
    """Test for a VM that KVM marked dead (kvm_vm_dead)."""
    if not f.vm_state.same_process or not f.vm_state.dead:
        return None
    return known("KVM marked the VM dead after an earlier failure: close it and create another")


def _bad_descriptor(f: AccessFacts) -> Broken | None:
    return None if f.vcpu.file else known("the vCPU's descriptor is closed")


def _not_a_vcpu(f: AccessFacts) -> Broken | None:
    if "kvm-vcpu" in f.vcpu.file:
        return None
    return known(f"the descriptor refers to {f.vcpu.file}: pass one of KVM_CREATE_VCPU")


def _not_initialised(f: AccessFacts) -> Broken | None:
    if f.vcpu.initialised:
        return None
    return known("the vCPU had no KVM_ARM_VCPU_INIT")


def _not_finalised(f: AccessFacts) -> Broken | None:
    if f.vcpu.finalised:
        return None
    return known("the vCPU has SVE: call KVM_ARM_VCPU_FINALIZE with KVM_ARM_VCPU_SVE")


def _vgic_not_placed(f: AccessFacts) -> Broken | None:
    if (vgic := f.vcpu.vgic) is None or not vgic.unplaced:
        return None
    return known(f"{vgic.unplaced} of the vGIC has no GPA: set KVM_DEV_ARM_VGIC_GRP_ADDR")


def _vgic_overlap(f: AccessFacts) -> Broken | None:
    if (vgic := f.vcpu.vgic) is None or not vgic.overlap:
        return None
    return known(f"register frames of the vGIC overlap: {vgic.overlap}")


def _vgic_not_initialised(f: AccessFacts) -> Broken | None:
    if (vgic := f.vcpu.vgic) is None or vgic.initialised:
        return None
    return known("the vGIC is not initialised: set KVM_DEV_ARM_VGIC_CTRL_INIT")


def _pmu_not_initialised(f: AccessFacts) -> Broken | None:
    if not f.vcpu.has_pmu:
        return None
    return inferred(
        "the vCPU has KVM_ARM_VCPU_PMU_V3, probably without KVM_ARM_VCPU_PMU_V3_INIT, or with an "
        "interrupt that the vGIC lacks"
    )


def _sync_regs(f: AccessFacts) -> Broken | None:
    if not f.vcpu.unknown_sync_regs:
        return None
    return known(
        f"kvm_run.kvm_valid_regs or kvm_dirty_regs has {f.vcpu.unknown_sync_regs:#x}, which "
        "KVM_CAP_SYNC_REGS lacks"
    )


def _signal(f: AccessFacts) -> Broken | None:
    if f.vcpu.immediate_exit:
        return known("kvm_run.immediate_exit is set")
    return inferred("a signal was pending for the thread that called KVM_RUN")


CONDITIONS: tuple[Condition[AccessFacts], ...] = (
    Condition(
        "bad-descriptor",
        (errno.EBADF,),
        "ioctl (fs/ioctl.c)",
        "the file descriptor is closed",
        _bad_descriptor,
        evidence=Unseen("ioctl(2) fails before it calls KVM"),
    ),
    Condition(
        "not-a-vcpu",
        (errno.ENOTTY, errno.EINVAL),  # EINVAL for a VM on arm64
        "vfs_ioctl (fs/ioctl.c), kvm_arch_vm_ioctl (arch/arm64/kvm/arm.c)",
        "the file descriptor is not a vCPU",
        _not_a_vcpu,
        evidence=Unseen("ioctl(2) calls another file's function, or none"),
    ),
    Condition(
        "another-process",
        (errno.EIO,),
        "kvm_vcpu_ioctl (virt/kvm/kvm_main.c)",
        ANOTHER_PROCESS,
        another_process,
        evidence=("kvm_vcpu_ioctl -EIO",),
    ),
    Condition(
        "vm-dead",
        (errno.EIO,),
        "kvm_vcpu_ioctl (virt/kvm/kvm_main.c)",
        VM_DEAD,
        vm_dead,
        evidence=("kvm_vcpu_ioctl -EIO",),
    ),
    Condition(
        "vcpu-not-initialised",
        (errno.ENOEXEC,),
        _PID_CHANGE,
        "the vCPU had no KVM_ARM_VCPU_INIT",
        _not_initialised,
        arch="arm64",
        evidence=("kvm_arch_vcpu_run_pid_change -ENOEXEC",),
    ),
    Condition(
        "vcpu-not-finalised",
        (errno.EPERM,),
        _PID_CHANGE,
        "the vCPU has SVE, and had no KVM_ARM_VCPU_FINALIZE",
        _not_finalised,
        arch="arm64",
        evidence=("kvm_arch_vcpu_run_pid_change -EPERM",),
    ),
    Condition(
        "vgic-not-placed",
        (errno.ENXIO,),
        _VGIC,
        "a register frame of the vGIC has no GPA",
        _vgic_not_placed,
        arch="arm64",
        evidence=("kvm_arch_vcpu_run_pid_change -ENXIO",),
    ),
    Condition(
        "vgic-overlap",
        (errno.EINVAL,),
        _VGIC,
        "register frames of the vGIC overlap",
        _vgic_overlap,
        arch="arm64",
        evidence=("kvm_arch_vcpu_run_pid_change -EINVAL",),
    ),
    Condition(
        "vgic-not-initialised",
        (errno.EBUSY,),
        _VGIC,
        "the vGIC had no KVM_DEV_ARM_VGIC_CTRL_INIT",
        _vgic_not_initialised,
        arch="arm64",
        evidence=("kvm_arch_vcpu_run_pid_change -EBUSY",),
    ),
    Condition(
        "pmu-not-initialised",
        (errno.EINVAL,),
        "kvm_arm_pmu_v3_enable (arch/arm64/kvm/pmu-emul.c)",
        "the vCPU has KVM_ARM_VCPU_PMU_V3, and had no KVM_ARM_VCPU_PMU_V3_INIT",
        _pmu_not_initialised,
        arch="arm64",
        evidence=("kvm_arch_vcpu_run_pid_change -EINVAL",),
    ),
    Condition(
        "sync-regs",
        (errno.EINVAL,),
        "kvm_arch_vcpu_ioctl_run (arch/x86/kvm/x86.c)",
        "kvm_run.kvm_valid_regs or kvm_dirty_regs has bits that KVM_CAP_SYNC_REGS lacks",
        _sync_regs,
        arch="x86_64",
        evidence=Unseen("only x86 fails this way, and it is not probed"),
    ),
    Condition(
        "signal",
        (errno.EINTR,),
        "kvm_arch_vcpu_ioctl_run (arch/arm64/kvm/arm.c, arch/x86/kvm/x86.c)",
        "a signal is pending, or kvm_run.immediate_exit is set",
        _signal,
        evidence=("KVM_RUN -EINTR",),
    ),
)
