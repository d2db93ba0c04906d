# SPDX-License-Identifier: GPL-2.0-only
"""The state of a vCPU of this process, for `pyvmm.why`."""

import errno
import itertools

from pyvmm.ioctl import IoctlError
from pyvmm.kvm.device import Device
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.kvm.vm import Vm
from pyvmm.kvm.vm_facts import file_name
from pyvmm.uapi.kvm import (
    KVM_CAP_SYNC_REGS,
    KVM_DEV_TYPE_ARM_VGIC_V3,
    KVM_GET_REG_LIST,
    kvm_reg_list,
)
from pyvmm.uapi.kvm_arm64 import (
    KVM_ARM_VCPU_PMU_V3_CTRL,
    KVM_ARM_VCPU_PMU_V3_INIT,
    KVM_DEV_ARM_VGIC_CTRL_INIT,
    KVM_DEV_ARM_VGIC_GRP_ADDR,
    KVM_DEV_ARM_VGIC_GRP_CTRL,
    KVM_VGIC_V3_ADDR_TYPE_DIST,
    KVM_VGIC_V3_ADDR_TYPE_REDIST,
    KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION,
    KVM_VGIC_V3_DIST_SIZE,
    KVM_VGIC_V3_REDIST_SIZE,
)
from pyvmm.uapi.native_arch import architecture
from pyvmm.why import VcpuState, Vgic


def vcpu_state(vm: Vm, vcpu: Vcpu) -> VcpuState:
    """Return the state of a vCPU and of its descriptor."""
    failure = _failure_of_reg_list(vcpu) if architecture == "arm64" else 0
    sync_regs = vcpu.kvm_run.kvm_valid_regs | vcpu.kvm_run.kvm_dirty_regs
    return VcpuState(
        file=file_name(vcpu.fileno()),
        initialised=failure != errno.ENOEXEC,
        finalised=failure != errno.EPERM,
        immediate_exit=bool(vcpu.kvm_run.immediate_exit),
        has_pmu=architecture == "arm64" and _has_pmu(vcpu),
        unknown_sync_regs=sync_regs & ~vm.offers(KVM_CAP_SYNC_REGS),
        vgic=_vgic(vm),
    )


def _failure_of_reg_list(vcpu: Vcpu) -> int:
    """Return the errno of ``KVM_GET_REG_LIST``, which has the same conditions as ``KVM_RUN``."""
    try:
        vcpu.ioctl(KVM_GET_REG_LIST, kvm_reg_list())
    except IoctlError as error:
        return error.errno
    return 0


def _has_pmu(vcpu: Vcpu) -> bool:
    try:
        return vcpu.has_attr(KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_INIT)
    except IoctlError:
        return False


def _vgic(vm: Vm) -> Vgic | None:
    """Return the VM's GICv3, as it was set up, or None.

    The VMM's record answers it: KVM fails the device's ioctls once the VM is dead.
    """
    gic = next((each for each in vm.devices if each.type == KVM_DEV_TYPE_ARM_VGIC_V3), None)
    if gic is None:
        return None
    frames = _frames(gic, len(vm.vcpus))
    redistributors = sum(size for name, _, size in frames if name == "redistributor")
    unplaced = None
    if redistributors < len(vm.vcpus) * KVM_VGIC_V3_REDIST_SIZE:
        unplaced = "a redistributor"
    elif not any(name == "distributor" for name, _, _ in frames):
        unplaced = "the distributor"
    overlap = None
    for (name, gpa, size), (other, start, length) in itertools.combinations(frames, 2):
        if gpa < start + length and start < gpa + size:
            overlap = f"{name} at GPA {gpa:#x}, {other} at GPA {start:#x}"
    initialised = (KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, 0) in gic.attributes
    return Vgic(unplaced, overlap, initialised)


def _frames(gic: Device, vcpus: int) -> list[tuple[str, int, int]]:
    """Return name, GPA and size of each register frame that has a GPA."""
    found = []
    for group, attribute, value in gic.attributes:
        if group != KVM_DEV_ARM_VGIC_GRP_ADDR:
            continue
        if attribute == KVM_VGIC_V3_ADDR_TYPE_DIST:
            found.append(("distributor", value, KVM_VGIC_V3_DIST_SIZE))
        elif attribute == KVM_VGIC_V3_ADDR_TYPE_REDIST:
            found.append(("redistributor", value, vcpus * KVM_VGIC_V3_REDIST_SIZE))
        elif attribute == KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION:
            # Documentation/virt/kvm/devices/arm-vgic-v3.rst: count 63:52, base 51:16, index 11:0.
            base, count = value & ((1 << 52) - (1 << 16)), value >> 52
            found.append(("redistributor", base, count * KVM_VGIC_V3_REDIST_SIZE))
    return found
