# SPDX-License-Identifier: GPL-2.0-only
"""Exits that user space enables, from a real guest."""

import pytest

from pyvmm.guest.payload import Payload
from pyvmm.kvm.exits import Debug, Halt, X86Rdmsr
from pyvmm.machine import ENTRY, Machine
from pyvmm.uapi.kvm import (
    KVM_CAP_X86_USER_SPACE_MSR,
    KVM_GUESTDBG_ENABLE,
    KVM_GUESTDBG_SINGLESTEP,
)
from pyvmm.uapi.native_arch import KVM_SET_GUEST_DEBUG, kvm_guest_debug

CODE = {
    "x86_64": bytes.fromhex("90 90 f4"),  # nop; nop; hlt
    "arm64": bytes.fromhex("1f2003d5") * 3,  # nop
}
STEP = {"x86_64": 1, "arm64": 4}  # bytes of a nop


def test_single_step(machine: Machine) -> None:
    arch = machine.arch
    machine.load(Payload("nops", arch.NAME, CODE[arch.NAME]))
    machine.enter()
    control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP
    machine.vcpu.ioctl(KVM_SET_GUEST_DEBUG, kvm_guest_debug(control=control))
    pc = "rip" if arch.NAME == "x86_64" else "pc"
    for step in (1, 2):
        assert isinstance(machine.run().last_exit, Debug)
        assert arch.read(machine.vcpu, pc) == ENTRY + step * STEP[arch.NAME]


@pytest.mark.needs_arch("x86_64")
def test_unknown_msr_exits_to_user_space(machine: Machine) -> None:
    unknown = 2  # KVM_MSR_EXIT_REASON_UNKNOWN
    machine.vm.enable(KVM_CAP_X86_USER_SPACE_MSR, unknown)
    # mov $0xdead,%ecx; rdmsr; hlt
    machine.load(Payload("rdmsr", "x86_64", bytes.fromhex("b9adde0000 0f32 f4")))
    machine.enter()
    assert machine.run().last_exit == X86Rdmsr(0xDEAD, unknown)
    machine.vcpu.kvm_run.msr.data = 42
    assert machine.run().last_exit == Halt()
    assert machine.arch.read(machine.vcpu, "rax") == 42
