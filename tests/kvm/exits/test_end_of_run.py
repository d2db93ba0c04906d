# SPDX-License-Identifier: GPL-2.0-only
"""Exits that end the run of a real guest."""

import errno

import pytest

from pyvmm.guest.payload import Payload
from pyvmm.kvm.exits import ArmNisv, Exit, Halt, InternalError, RunFailure, Shutdown, SystemEvent
from pyvmm.machine import Machine
from pyvmm.uapi.kvm import (
    KVM_CAP_ARM_NISV_TO_USER,
    KVM_INTERNAL_ERROR_EMULATION,
    KVM_SYSTEM_EVENT_SHUTDOWN,
)
from tests.kvm.gpas import DEVICE_GPA


def run_code(machine: Machine, code: str) -> Exit:
    """Run machine code given in hex; return the last exit."""
    machine.load(Payload("test", machine.arch.NAME, bytes.fromhex(code)))
    machine.enter()
    return machine.run().last_exit


@pytest.mark.needs_arch("x86_64")
def test_hlt(machine: Machine) -> None:
    assert run_code(machine, "f4") == Halt()


@pytest.mark.needs_arch("x86_64")
def test_triple_fault(machine: Machine) -> None:
    assert run_code(machine, "0f0b") == Shutdown()  # ud2, with no IDT


@pytest.mark.needs_arch("x86_64")
def test_instruction_that_kvm_cannot_emulate(machine: Machine) -> None:
    # Without hardware virtualization KVM emulates mov %cr0, but never AVX on MMIO:
    # mov $0xa000000,%eax; vmovdqu (%rax),%ymm0
    error = run_code(machine, "b80000000a c5fe6f00")
    if isinstance(error, Shutdown):
        pytest.skip("this vCPU has no AVX: run it on an x86-64 machine with hardware KVM")
    assert isinstance(error, InternalError)
    assert error.suberror == KVM_INTERNAL_ERROR_EMULATION


@pytest.mark.needs_arch("aarch64")
def test_power_off(machine: Machine) -> None:
    machine.load(Payload.builtin("hello", machine.arch.NAME))
    machine.enter()
    event = machine.run().last_exit
    assert isinstance(event, SystemEvent)
    assert event.type == KVM_SYSTEM_EVENT_SHUTDOWN


@pytest.mark.needs_arch("aarch64")
def test_load_without_syndrome(machine: Machine) -> None:
    # movz x0, #0xa00, lsl #16; ldp x1, x2, [x0]: ISV is 0 for a load of two registers
    end = run_code(machine, "0040a1d2 010840a9")
    if KVM_CAP_ARM_NISV_TO_USER in machine.vm.enabled:
        assert isinstance(end, ArmNisv)
        assert end.fault_ipa == DEVICE_GPA
    else:
        assert end == RunFailure(errno.ENOSYS)
