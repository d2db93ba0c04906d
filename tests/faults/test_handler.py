# SPDX-License-Identifier: GPL-2.0-only
"""Faults of a running guest, from the exit to the outcome, under each policy."""

import io
import os
from collections.abc import Iterator
from contextlib import closing
from itertools import repeat

import pytest

from pyvmm import libc
from pyvmm.arch.page_tables import identity
from pyvmm.faults import FaultRecord, Fix
from pyvmm.faults.fault import Fault
from pyvmm.faults.guard import ATTEMPTS
from pyvmm.faults.policy import Policy, always, auto
from pyvmm.guest import snippet
from pyvmm.kvm import System
from pyvmm.kvm.exits import RunFailure
from pyvmm.machine import ARGUMENT_BLOCK, Machine
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE, Mapping
from pyvmm.provoke import fixed_mmap
from tests.faults import vcpus

GPA = 1 << 32
SIZE = 4 * PAGE_SIZE
LDR_W4_X2 = 0xB9400044
STP_X4_X5_X2 = 0xA9001444

pytestmark = pytest.mark.needs_arch("aarch64")


@pytest.fixture
def machine(kvm: System) -> Iterator[Machine]:
    with Machine(kvm, console=io.BytesIO()) as machine:
        yield machine


@pytest.fixture
def memory(machine: Machine) -> Iterator[Mapping]:
    """Memory at `GPA`, whose first page is inaccessible (``PROT_NONE``)."""
    with Mapping.anonymous(SIZE) as memory:
        memory.write(0, b"kept")
        libc.mprotect(memory.hva, PAGE_SIZE, PROT_NONE)
        machine.vm.memslots.add(GPA, memory)
        machine.windows.append(identity(GPA, SIZE))
        yield memory


def execute(machine: Machine, *words: int) -> snippet.SnippetResult:
    """Run instructions with x2 at `GPA`; return the guest's result."""
    machine.load(snippet.payload(words))
    block = snippet.pack([0, 0, GPA, 0, 0x44, 0x55])
    machine.enter(block)
    machine.run()
    return snippet.unpack(machine.read(ARGUMENT_BLOCK, len(block)))


def only_record(machine: Machine) -> FaultRecord:
    [record] = machine.faults.records
    return record


@pytest.mark.parametrize(
    ("policy", "fix"),
    [(auto, "replay"), (always(Fix.REPLAY), "replay"), (always(Fix.EMULATE), "emulate")],
)
def test_the_guest_reads_the_contents(
    machine: Machine, memory: Mapping, policy: Policy, fix: str
) -> None:
    machine.faults.policy = policy
    result = execute(machine, LDR_W4_X2)
    assert result.registers[4] == int.from_bytes(b"kept", "little")
    assert (only_record(machine).fix, only_record(machine).outcome) == (fix, "resolved")


def test_an_access_that_kvm_cannot_emulate_is_emulated(machine: Machine, memory: Mapping) -> None:
    machine.faults.policy = always(Fix.EMULATE)
    assert execute(machine, STP_X4_X5_X2).outcome is snippet.SnippetOutcome.OK
    assert memory.read(0, 16) == b"\x44" + bytes(7) + b"\x55" + bytes(7)
    causes = [record.fault.cause for record in machine.faults.records]
    assert causes == ["hva-no-access", "mmio-no-syndrome"]


def test_the_rest_of_a_memslot_stays_registered(machine: Machine, memory: Mapping) -> None:
    machine.faults.policy = always(Fix.EMULATE)
    execute(machine, LDR_W4_X2)
    [_ram, rest] = machine.vm.memslots
    assert (rest.gpa, rest.end) == (GPA + PAGE_SIZE, GPA + SIZE)
    assert rest.hva == memory.hva + PAGE_SIZE


def test_an_injected_abort_reaches_the_guest(machine: Machine, memory: Mapping) -> None:
    machine.faults.policy = always(Fix.INJECT)
    result = execute(machine, LDR_W4_X2)
    assert result.outcome is snippet.SnippetOutcome.EXCEPTION
    assert (result.far, result.syndrome & 0x3F) == (GPA, 0x10)  # DFSC: synchronous external abort
    assert (only_record(machine).fix, only_record(machine).outcome) == ("inject", "resolved")


def test_stopping_ends_the_run(machine: Machine, memory: Mapping) -> None:
    machine.faults.policy = always(Fix.STOP)
    execute(machine, LDR_W4_X2)
    assert (only_record(machine).fix, only_record(machine).outcome) == ("stop", "stopped")
    assert "possible: replay, emulate, inject" in only_record(machine).how


def test_a_remedy_that_the_fault_lacks_stops_the_run(machine: Machine, memory: Mapping) -> None:
    machine.faults.policy = always(Fix.CONVERT)
    execute(machine, LDR_W4_X2)
    assert only_record(machine).outcome == "stopped"
    assert "does not offer" in only_record(machine).how


def test_a_remedy_that_the_kernel_refuses_stops_the_run(machine: Machine, memory: Mapping) -> None:
    libc.munmap(memory.hva, PAGE_SIZE)

    def occupy_hole(fault: Fault) -> Fix:
        fixed_mmap.map_anonymous(memory.hva, PAGE_SIZE)
        return Fix.REPLAY

    machine.faults.policy = occupy_hole
    execute(machine, LDR_W4_X2)
    record = only_record(machine)
    assert (record.fault.cause, record.fix, record.outcome) == ("hva-unmapped", "stop", "stopped")
    assert record.how.startswith(f"replay failed: mmap({memory.hva:#x}, ")
    assert record.how.endswith("): File exists")


def test_a_policy_gets_the_fault(machine: Machine, memory: Mapping) -> None:
    faults: list[Fault] = []

    def policy(fault: Fault) -> Fix:
        faults.append(fault)
        return Fix.STOP

    machine.faults.policy = policy
    execute(machine, LDR_W4_X2)
    [fault] = faults
    assert (fault.report.gpa, fault.report.size, fault.report.access) == (GPA, 4, "read")
    assert (fault.region, fault.cause) == ("RAM", "hva-no-access")
    assert str(fault.report.instruction) == "ldr w4, [x2]"


def test_a_fault_that_comes_back_is_stopped(machine: Machine, memory: Mapping) -> None:
    handle = machine.handlers[RunFailure]

    def handle_and_break(exit: RunFailure) -> bool:
        """Handle the fault, and make the page inaccessible again before the guest runs."""
        resolved = handle(exit)
        libc.mprotect(memory.hva, PAGE_SIZE, PROT_NONE)
        return resolved

    machine.handlers = {**machine.handlers, RunFailure: handle_and_break}
    execute(machine, LDR_W4_X2)
    assert (only_record(machine).outcome, only_record(machine).attempts) == ("stopped", ATTEMPTS)
    assert "no progress" in only_record(machine).how


def test_a_closed_vcpu_descriptor_is_named(machine: Machine) -> None:
    """Another part of the VMM closed it: no register can be read, but the cause is known."""
    number = machine.vcpu.fileno()
    saved = os.dup(number)
    os.close(number)
    try:
        machine.handlers[RunFailure](machine.vcpu.run())
    finally:
        os.dup2(saved, number, inheritable=False)
        os.close(saved)
    [record] = machine.faults.records
    assert (record.fault.report.errno, record.fault.cause) == ("EBADF", "bad-descriptor")
    assert (record.outcome, record.fault.mark, record.fault.report.pc) == ("stopped", "known", None)


@pytest.mark.parametrize("fix", [Fix.REPLAY, Fix.EMULATE])
def test_no_write_of_several_vcpus_is_lost(kvm: System, machine: Machine, fix: Fix) -> None:
    machine.faults.policy = always(fix)
    with Mapping.anonymous(vcpus.PAGES << 12) as memory:
        machine.vm.memslots.add(GPA, memory)
        guest = vcpus.CountingGuest(kvm, machine, vcpus=4)
        with closing(vcpus.Breaker(machine, memory)) as breaker:
            guest.run(repeat(breaker, 100))
            breaker.memory.protect(PROT_READ | PROT_WRITE)
            guest.check(breaker.memory.read)
    assert machine.faults.counts
    assert {record.fix for record in machine.faults.records} == {fix}
