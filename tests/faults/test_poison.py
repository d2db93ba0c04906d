# SPDX-License-Identifier: GPL-2.0-only
"""SIGBUS for poisoned memory, sent by this process to itself with the kernel's ``siginfo_t``."""

import ctypes
import io
import os
import platform
import signal
import threading
from collections.abc import Iterator

import pytest

from pyvmm import libc
from pyvmm.faults import poison
from pyvmm.faults.fault import Fix
from pyvmm.faults.poison import BUS_MCEERR_AO, BUS_MCEERR_AR, Poisoned
from pyvmm.faults.policy import always
from pyvmm.guest.payload import Payload
from pyvmm.kvm import System, Vm
from pyvmm.kvm.exits import Interrupted
from pyvmm.machine import RAM_BASE, Machine
from pyvmm.memory import PAGE_SIZE

RT_TGSIGQUEUEINFO = {"x86_64": 297, "aarch64": 240}[platform.machine()]
PAGE_SHIFT = PAGE_SIZE.bit_length() - 1
BUS_ADRERR = 2  # asm-generic/siginfo.h
HVA = 0x7000_0000


class SigbusInfo(ctypes.Structure):
    """The members of ``siginfo_t`` that SIGBUS has, and padding to its size."""

    _fields_ = (
        ("si_signo", ctypes.c_int),
        ("si_errno", ctypes.c_int),
        ("si_code", ctypes.c_int),
        ("si_addr", ctypes.c_uint64),
        ("si_addr_lsb", ctypes.c_short),
        ("padding", ctypes.c_byte * 102),
    )


def send(hva: int, code: int = BUS_MCEERR_AR) -> None:
    """Send SIGBUS for the page at `hva` to this thread."""
    info = SigbusInfo(signal.SIGBUS, 0, code, hva, PAGE_SHIFT)
    thread = threading.get_native_id()
    libc.syscall(RT_TGSIGQUEUEINFO, os.getpid(), thread, signal.SIGBUS, ctypes.addressof(info))


def blocked() -> set[int]:
    return set(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ())))


@pytest.fixture
def sigbus_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGBUS})
    yield
    poison.pending()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.usefixtures("sigbus_blocked")
def test_a_memory_error_is_reported_with_its_page() -> None:
    send(HVA + 0x123)
    assert poison.pending() == Poisoned(HVA, PAGE_SIZE)
    assert poison.pending() is None


@pytest.mark.usefixtures("sigbus_blocked")
def test_an_error_that_nobody_consumed_yet_is_reported_as_such() -> None:
    send(HVA, BUS_MCEERR_AO)
    assert poison.pending() == Poisoned(HVA, PAGE_SIZE, consumed=False)


@pytest.mark.usefixtures("sigbus_blocked")
def test_another_sigbus_is_dropped() -> None:
    send(HVA, BUS_ADRERR)
    assert poison.pending() is None
    assert signal.SIGBUS not in signal.sigpending()


def test_sigbus_is_blocked_while_it_is_reported(vm: Vm) -> None:
    before = blocked()
    with poison.reporting(vm.create_vcpu()):
        assert blocked() == before | {signal.SIGBUS}
    assert blocked() == before


def test_a_sigbus_that_nobody_read_does_not_kill_the_process(vm: Vm) -> None:
    with poison.reporting(vm.create_vcpu()):
        send(HVA)
    assert signal.SIGBUS not in signal.sigpending()


@pytest.mark.usefixtures("sigbus_blocked")
def test_a_pending_sigbus_interrupts_kvm_run_and_is_a_fault(kvm: System) -> None:
    with Machine(kvm, console=io.BytesIO()) as machine:
        machine.faults.policy = always(Fix.STOP)
        machine.load(Payload.builtin("hello", machine.arch.NAME))
        machine.enter()
        send(machine.ram.hva + PAGE_SIZE)
        outcome = machine.run()
    [record] = machine.faults.records
    assert isinstance(outcome.last_exit, Interrupted)
    assert (record.fault.cause, record.fault.region) == ("hardware-poison", "RAM")
    assert (record.fault.report.gpa, record.fault.report.size) == (RAM_BASE + PAGE_SIZE, PAGE_SIZE)
    assert f"HVA {machine.ram.hva + PAGE_SIZE:#x}" in record.fault.why
    assert record.fault.remedy(Fix.REPLAY)


@pytest.mark.usefixtures("sigbus_blocked")
def test_an_error_in_memory_that_the_guest_has_not_accessed_is_a_fault(kvm: System) -> None:
    with Machine(kvm, console=io.BytesIO()) as machine:
        machine.faults.policy = always(Fix.STOP)
        machine.load(Payload.builtin("hello", machine.arch.NAME))
        machine.enter()
        send(machine.ram.hva + PAGE_SIZE, BUS_MCEERR_AO)
        machine.run()
    [record] = machine.faults.records
    assert (record.fault.cause, record.fault.report.access) == ("hardware-poison", None)
    assert "BUS_MCEERR_AO" in record.fault.why
    assert record.fault.remedy(Fix.REPLAY)
    assert not record.fault.remedy(Fix.INJECT)
