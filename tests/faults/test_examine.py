# SPDX-License-Identifier: GPL-2.0-only
"""The cause of a fault, chosen between the pages of one access."""

import errno
import io
import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pyvmm import libc
from pyvmm.arch.page_tables import identity
from pyvmm.faults.context import VcpuContext
from pyvmm.faults.examine import UNKNOWN, examine
from pyvmm.faults.fault import Fix
from pyvmm.faults.policy import always
from pyvmm.guest import snippet
from pyvmm.kvm import System
from pyvmm.kvm.exits import RunFailure
from pyvmm.machine import Machine
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE, Mapping
from pyvmm.passthrough import AssignedDevice
from pyvmm.provoke import fixed_mmap
from pyvmm.why.registration import CACHEABLE_PFNMAP
from tests.devices import Find

pytestmark = pytest.mark.needs_arch("aarch64")

GPA = 1 << 32
LDP_X4_X5_X2 = 0xA9401444


@pytest.fixture
def machine(kvm: System) -> Iterator[Machine]:
    """Create a machine that stops at the first fault."""
    with Machine(kvm, console=io.BytesIO()) as machine:
        machine.faults.policy = always(Fix.STOP)
        yield machine


@pytest.fixture
def two_files(machine: Machine) -> Iterator[Mapping]:
    """Two pages at `GPA`: the first of one file, the second of another."""
    with ExitStack() as stack:
        memory = stack.enter_context(Mapping(2 * PAGE_SIZE))
        for at in (0, PAGE_SIZE):
            fd = os.memfd_create("guest")
            stack.callback(os.close, fd)
            os.ftruncate(fd, PAGE_SIZE)
            memory.place(fd, 0, at=at, size=PAGE_SIZE)
        machine.vm.memslots.add(GPA, memory)
        machine.windows.append(identity(GPA, 2 * PAGE_SIZE))
        yield memory


def load_pair(machine: Machine, gpa: int) -> None:
    """Run ``ldp x4, x5, [x2]`` with x2 at `gpa`."""
    machine.load(snippet.payload([LDP_X4_X5_X2]))
    machine.enter(snippet.pack([0, 0, gpa]))
    machine.run()


def test_the_broken_page_is_blamed_not_a_replaced_one(machine: Machine, two_files: Mapping) -> None:
    fixed_mmap.map_anonymous(two_files.hva, PAGE_SIZE)
    libc.mprotect(two_files.hva + PAGE_SIZE, PAGE_SIZE, PROT_NONE)
    load_pair(machine, GPA + PAGE_SIZE - 8)
    [record] = machine.faults.records
    assert (record.fault.cause, record.fault.report.gpa) == ("hva-no-access", GPA + PAGE_SIZE)
    assert (record.fault.report.size, record.fault.region) == (8, "RAM")


def test_a_fault_that_was_fixed_meanwhile_has_no_cause(
    machine: Machine, two_files: Mapping
) -> None:
    libc.mprotect(two_files.hva, PAGE_SIZE, PROT_NONE)
    load_pair(machine, GPA + PAGE_SIZE - 8)
    [record] = machine.faults.records
    libc.mprotect(two_files.hva, PAGE_SIZE, PROT_READ | PROT_WRITE)
    context = VcpuContext(machine.vm, machine.vcpu, machine.arch, machine.mmio)
    fault = examine(record.fault.report.exit, context)
    assert (fault.cause, fault.report.gpa, fault.region) == (UNKNOWN, None, None)
    assert "every page that the instruction accesses is accessible now" in fault.why
    assert fault.remedies == ()


def test_the_broken_bar_is_blamed_not_the_one_before_it(machine: Machine, find: Find) -> None:
    """The access starts in BAR2, which is healthy, and ends in BAR4, which replaced a memslot."""
    with AssignedDevice(machine, str(find("grace")), flip=["BAR4"]) as device:
        gpas = {bar.region.name: (bar.gpa, bar.gpa + bar.region.size) for bar in device.bars}
        start, _ = gpas["BAR4"]
        assert gpas["BAR2"][1] == start
        machine.windows.append(identity(start - PAGE_SIZE, 2 * PAGE_SIZE))
        load_pair(machine, start - 8)
    if not machine.vm.host.rejects_cacheable_pfnmap:
        assert machine.faults.records == []
        pytest.skip("this CPU maps BAR4 cacheable: pytest --lab --lab-cpu neoverse-n1")
    [record] = machine.faults.records
    assert (record.fault.report.gpa, record.fault.cause) == (start, CACHEABLE_PFNMAP)
    assert (record.fault.region, record.fault.report.size) == ("BAR4", 8)


def test_a_bar_without_a_visible_reason_may_not_be_ready(machine: Machine, find: Find) -> None:
    with AssignedDevice(machine, str(find("grace"))) as device:
        [bar2] = (bar for bar in device.bars if bar.region.name == "BAR2")
        outside = bar2.gpa - PAGE_SIZE
        machine.windows.append(identity(outside, 2 * PAGE_SIZE))
        load_pair(machine, outside)
        assert [record.fault.cause for record in machine.faults.records] == ["outside-memslots"]
        machine.arch.write(machine.vcpu, {"x2": bar2.gpa})
        context = VcpuContext(machine.vm, machine.vcpu, machine.arch, machine.mmio)
        fault = examine(RunFailure(errno.EFAULT), context)
    found = (fault.cause, fault.mark, fault.report.gpa, fault.region)
    assert found == ("device-not-ready", "inferred", bar2.gpa, "BAR2")
    assert "nothing shows why" in fault.why


def test_a_vcpu_without_init_is_named(machine: Machine) -> None:
    """``KVM_RUN`` fails with ENOEXEC, and so does reading a register."""
    machine.run()
    [record] = machine.faults.records
    assert (record.fault.report.errno, record.fault.cause) == ("ENOEXEC", "vcpu-not-initialised")
    assert record.fault.report.incomplete == "pc cannot be read: Exec format error"
