# SPDX-License-Identifier: GPL-2.0-only
"""``KVM_RUN`` on a vCPU, a VM or a descriptor that is not ready for it."""

import errno
import os

from pyvmm.arch.arm64.vgic import GicLayout
from pyvmm.errno_names import errno_name
from pyvmm.errors import SkippedError
from pyvmm.kvm.device import Device
from pyvmm.kvm.exits import Interrupted, RunFailure
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.kvm.vcpu_facts import vcpu_state
from pyvmm.kvm.vm import Vm
from pyvmm.kvm.vm_facts import vm_state
from pyvmm.memory import Mapping
from pyvmm.provoke.forked import in_child
from pyvmm.provoke.registrations import need_arm64
from pyvmm.provoke.testbed import TARGET_GPA, TARGET_SIZE, Failure, Provocation, Testbed
from pyvmm.uapi.kvm import (
    KVM_CAP_ARM_PMU_V3,
    KVM_CAP_ARM_SVE,
    KVM_DEV_TYPE_ARM_VGIC_V3,
    KVM_RUN,
)
from pyvmm.uapi.kvm_arm64 import (
    KVM_ARM_PREFERRED_TARGET,
    KVM_ARM_VCPU_INIT,
    KVM_ARM_VCPU_PMU_V3,
    KVM_ARM_VCPU_SVE,
    KVM_DEV_ARM_VGIC_CTRL_INIT,
    KVM_DEV_ARM_VGIC_GRP_ADDR,
    KVM_DEV_ARM_VGIC_GRP_CTRL,
    KVM_VGIC_V3_ADDR_TYPE_DIST,
    KVM_VGIC_V3_ADDR_TYPE_REDIST,
    kvm_vcpu_init,
)
from pyvmm.why import AccessFacts, kvm_run, most_likely

_GIC = GicLayout.at(0x0800_0000, vcpus=1)


def _run(vm: Vm, vcpu: Vcpu) -> Failure | None:
    """Call ``KVM_RUN`` once; return its failure, or None if it returned with an exit."""
    exit = vcpu.run()
    if not isinstance(exit, RunFailure | Interrupted):
        return None
    facts = AccessFacts(
        errno=exit.errno if isinstance(exit, RunFailure) else errno.EINTR,
        host=vm.host,
        exit=exit.kind,
        read_vm_state=lambda: vm_state(vm),
        read_vcpu_state=lambda: vcpu_state(vm, vcpu),
    )
    finding = most_likely(kvm_run.CONDITIONS, facts)
    name = errno_name(facts.errno)
    if finding is None:
        return Failure(KVM_RUN.name, name, "unknown", None, f"no condition fits {name}")
    return Failure(KVM_RUN.name, name, finding.name, finding.mark, finding.why)


def _run_machine(testbed: Testbed) -> None:
    testbed.failure = _run(testbed.machine.vm, testbed.machine.vcpu)


def _prepare(testbed: Testbed) -> Vcpu:
    """Initialize the machine's vCPU and return it."""
    machine = testbed.machine
    machine.arch.prepare(testbed.system, machine.vm, machine.vcpu)
    return machine.vcpu


def _replace_descriptor(testbed: Testbed, file: int | None) -> None:
    """Run the vCPU with its descriptor closed, or referring to `file`; restore it afterwards."""
    number = _prepare(testbed).fileno()
    saved = os.dup(number)
    try:
        if file is None:
            os.close(number)
        else:
            os.dup2(file, number, inheritable=False)
        _run_machine(testbed)
    finally:
        os.dup2(saved, number, inheritable=False)
        os.close(saved)


def _close_descriptor(testbed: Testbed) -> None:
    _replace_descriptor(testbed, None)


def _run_another_file(testbed: Testbed) -> None:
    _replace_descriptor(testbed, testbed.machine.vm.fileno())


def _run_in_child(testbed: Testbed) -> None:
    vcpu = _prepare(testbed)
    testbed.failure = in_child(lambda: _run(testbed.machine.vm, vcpu))


def _request_immediate_exit(testbed: Testbed) -> None:
    _prepare(testbed).stop()
    _run_machine(testbed)


def _request_unknown_registers(testbed: Testbed) -> None:
    if testbed.machine.arch.NAME != "x86_64":
        raise SkippedError("needs an x86 host: only KVM on x86 tests kvm_run.kvm_valid_regs")
    _prepare(testbed).kvm_run.kvm_valid_regs = 1 << 63
    _run_machine(testbed)


def _run_uninitialised(testbed: Testbed) -> None:
    need_arm64(testbed)
    vm = testbed.machine.vm
    testbed.failure = _run(vm, vm.create_vcpu(1))


def _initialise(testbed: Testbed, vcpu: Vcpu, feature: int) -> None:
    """Initialize a vCPU with one ``KVM_ARM_VCPU_*`` feature."""
    init = kvm_vcpu_init()
    testbed.machine.vm.ioctl(KVM_ARM_PREFERRED_TARGET, init)
    init.features[0] |= 1 << feature
    vcpu.ioctl(KVM_ARM_VCPU_INIT, init)


def _run_with_feature(testbed: Testbed, capability: int, feature: int, name: str) -> None:
    need_arm64(testbed)
    machine = testbed.machine
    if not machine.vm.offers(capability):
        raise SkippedError(f"this kernel and CPU offer no {name} to guests")
    vcpu = machine.vm.create_vcpu(1)
    _initialise(testbed, vcpu, feature)
    testbed.failure = _run(machine.vm, vcpu)


def _run_unfinalised(testbed: Testbed) -> None:
    _run_with_feature(testbed, KVM_CAP_ARM_SVE, KVM_ARM_VCPU_SVE, "SVE (KVM_CAP_ARM_SVE)")


def _run_without_pmu(testbed: Testbed) -> None:
    _run_with_feature(testbed, KVM_CAP_ARM_PMU_V3, KVM_ARM_VCPU_PMU_V3, "PMU (KVM_CAP_ARM_PMU_V3)")


def _create_gic(testbed: Testbed) -> Device:
    need_arm64(testbed)
    _prepare(testbed)
    vm = testbed.machine.vm
    if not vm.has_device(KVM_DEV_TYPE_ARM_VGIC_V3):
        raise SkippedError("this host has no GICv3")
    return vm.create_device(KVM_DEV_TYPE_ARM_VGIC_V3)


def _place(gic: Device, frame: int, gpa: int) -> None:
    gic.set_attr(KVM_DEV_ARM_VGIC_GRP_ADDR, frame, gpa)


def _place_no_frame(testbed: Testbed) -> None:
    _create_gic(testbed)
    _run_machine(testbed)


def _place_no_distributor(testbed: Testbed) -> None:
    gic = _create_gic(testbed)
    _place(gic, KVM_VGIC_V3_ADDR_TYPE_REDIST, _GIC.redistributors)
    _run_machine(testbed)


def _overlap_frames(testbed: Testbed) -> None:
    gic = _create_gic(testbed)
    _place(gic, KVM_VGIC_V3_ADDR_TYPE_REDIST, _GIC.redistributors)
    # In this order: KVM checks the redistributors against a distributor that is placed.
    _place(gic, KVM_VGIC_V3_ADDR_TYPE_DIST, _GIC.redistributors)
    gic.set_attr(KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT)
    _run_machine(testbed)


def _omit_init(testbed: Testbed) -> None:
    gic = _create_gic(testbed)
    _place(gic, KVM_VGIC_V3_ADDR_TYPE_DIST, _GIC.distributor)
    _place(gic, KVM_VGIC_V3_ADDR_TYPE_REDIST, _GIC.redistributors)
    _run_machine(testbed)


def _run_dead_vm(testbed: Testbed) -> None:
    _place_no_frame(testbed)
    _run_machine(testbed)


def _register_in_dead_vm(testbed: Testbed) -> None:
    _place_no_frame(testbed)
    memory = testbed.stack.enter_context(Mapping.anonymous(TARGET_SIZE))
    testbed.machine.vm.memslots.add(TARGET_GPA, memory)


PROVOCATIONS = (
    Provocation(
        "vcpu-closed", "KVM_RUN on a closed descriptor", "bad-descriptor", _close_descriptor
    ),
    Provocation("vcpu-is-vm", "KVM_RUN on a VM's descriptor", "not-a-vcpu", _run_another_file),
    Provocation("vcpu-in-child", "KVM_RUN by a forked process", "another-process", _run_in_child),
    Provocation("vm-dead", "KVM_RUN again after vgic-unplaced", "vm-dead", _run_dead_vm),
    Provocation(
        "slot-in-dead-vm", "a memslot after vgic-unplaced", "vm-dead", _register_in_dead_vm
    ),
    Provocation(
        "vcpu-uninitialised",
        "KVM_RUN without KVM_ARM_VCPU_INIT",
        "vcpu-not-initialised",
        _run_uninitialised,
    ),
    Provocation(
        "vcpu-unfinalised",
        "KVM_RUN with SVE, without KVM_ARM_VCPU_FINALIZE",
        "vcpu-not-finalised",
        _run_unfinalised,
    ),
    Provocation(
        "vgic-unplaced", "a vGIC whose frames have no GPA", "vgic-not-placed", _place_no_frame
    ),
    Provocation(
        "vgic-without-distributor",
        "a vGIC whose distributor has no GPA",
        "vgic-not-placed",
        _place_no_distributor,
    ),
    Provocation(
        "vgic-frames-overlap",
        "a vGIC with both frames at one GPA",
        "vgic-overlap",
        _overlap_frames,
    ),
    Provocation(
        "vgic-uninitialised",
        "a vGIC without KVM_DEV_ARM_VGIC_CTRL_INIT",
        "vgic-not-initialised",
        _omit_init,
    ),
    Provocation(
        "pmu-uninitialised",
        "KVM_RUN with a PMU, without KVM_ARM_VCPU_PMU_V3_INIT",
        "pmu-not-initialised",
        _run_without_pmu,
    ),
    Provocation(
        "sync-regs-unknown",
        "KVM_RUN with an unknown bit in kvm_valid_regs",
        "sync-regs",
        _request_unknown_registers,
    ),
    Provocation(
        "immediate-exit", "KVM_RUN with immediate_exit set", "signal", _request_immediate_exit
    ),
)
