# SPDX-License-Identifier: GPL-2.0-only
"""The facts of located accesses, collected from an exit and a VM of this process."""

import errno
import io
from collections.abc import Iterator

import pytest

from pyvmm.arch.native import native
from pyvmm.bus import Bus
from pyvmm.errno_names import EHWPOISON
from pyvmm.faults.access_facts import GuestAccessFacts, facts_of
from pyvmm.faults.context import VcpuContext
from pyvmm.faults.poison import Poisoned
from pyvmm.faults.repairs import EmptyBus
from pyvmm.faults.report import FaultReport
from pyvmm.kvm import System, Vm
from pyvmm.kvm.exits import ArmNisv, ArmSea, Exit, MemoryFault, Mmio, RunFailure
from pyvmm.machine import Machine
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.passthrough import AssignedDevice
from pyvmm.uapi.kvm import KVM_MEMORY_EXIT_FLAG_PRIVATE
from pyvmm.why import Absent
from tests.devices import Find

GPA = 0x1000_0000
SIZE = 2 * PAGE_SIZE
DEVICE = GPA + SIZE


@pytest.fixture
def context(vm: Vm) -> Iterator[VcpuContext]:
    """Create a VM with memory at `GPA` and an emulated device at `DEVICE`."""
    context = VcpuContext(vm, vm.create_vcpu(), native(), Bus())
    context.mmio.attach(DEVICE, PAGE_SIZE, EmptyBus())
    with Mapping.anonymous(SIZE) as memory:
        vm.memslots.add(GPA, memory)
        yield context


def facts(
    context: VcpuContext, exit: Exit | Poisoned, gpa: int | None = GPA, va: int | None = None
) -> GuestAccessFacts:
    report = FaultReport(
        gpa=gpa,
        size=8,
        access="write",
        errno=None,
        source="reconstructed",
        exit=exit,
        va=va,
        unaligned_for_device="is not aligned",
    )
    return facts_of(report, context)


@pytest.mark.parametrize(
    ("exit", "kind", "number"),
    [
        (RunFailure(errno.EFAULT), "run_failure", errno.EFAULT),
        (MemoryFault(0, GPA, PAGE_SIZE, EHWPOISON), "memory_fault", EHWPOISON),
        (MemoryFault(0, GPA, PAGE_SIZE), "memory_fault", 0),
        (Mmio(GPA, 4, False, 0), "mmio", 0),
        (ArmNisv(0, GPA), "arm_nisv", 0),
        (Poisoned(0, PAGE_SIZE), "hardware_poison", 0),
    ],
    ids=["EFAULT", "EHWPOISON", "memory_fault", "mmio", "arm_nisv", "SIGBUS"],
)
def test_the_exit_gives_its_kind_and_errno(
    context: VcpuContext, exit: Exit | Poisoned, kind: str, number: int
) -> None:
    found = facts(context, exit)
    assert (found.exit, found.errno, found.host) == (kind, number, context.vm.host)


def test_members_of_an_exit(context: VcpuContext) -> None:
    private = MemoryFault(KVM_MEMORY_EXIT_FLAG_PRIVATE, GPA, PAGE_SIZE)
    assert facts(context, private).private is True
    assert facts(context, MemoryFault(0, GPA, PAGE_SIZE)).private is False
    assert facts(context, RunFailure(errno.EFAULT)).private is None
    assert facts(context, ArmSea(0, 0x10, 0, GPA)).esr == 0x10
    assert facts(context, Poisoned(0x1000, PAGE_SIZE)).poisoned_hva == 0x1000


def test_the_memslot_behind_the_access(context: VcpuContext) -> None:
    found = facts(context, RunFailure(errno.EFAULT), GPA + PAGE_SIZE + 8)
    [slot] = context.vm.memslots
    assert found.slot is found.memslot is slot
    assert found.mapping is slot.memory
    assert (found.at, found.readable, found.writes) == (PAGE_SIZE, True, True)
    assert not found.device_at_gpa


def test_a_device_at_the_access(context: VcpuContext) -> None:
    found = facts(context, RunFailure(errno.EFAULT), DEVICE)
    assert (found.slot, found.memslot, found.mapping) == (None, None, None)
    assert found.device_at_gpa


def test_without_a_gpa_the_memslot_is_not_known(context: VcpuContext) -> None:
    found = facts(context, RunFailure(errno.EFAULT), gpa=None)
    assert not found.device_at_gpa
    with pytest.raises(Absent):
        assert found.slot


def test_the_misalignment_is_known_for_a_rebuilt_access_only(context: VcpuContext) -> None:
    assert facts(context, RunFailure(errno.EFAULT), va=0x1000).misalignment == "is not aligned"
    with pytest.raises(Absent):
        assert facts(context, RunFailure(errno.EFAULT)).misalignment


def test_ordinary_memory_is_not_rejected_as_cacheable(context: VcpuContext) -> None:
    assert facts(context, RunFailure(errno.EFAULT)).rejected_as_cacheable is False


@pytest.mark.needs_arch("aarch64")
def test_kvm_is_asked_whether_a_bar_is_cacheable(kvm: System, find: Find) -> None:
    with Machine(kvm, console=io.BytesIO()) as machine:
        with AssignedDevice(machine, str(find("grace")), flip=["BAR4"]) as device:
            context = VcpuContext(machine.vm, machine.vcpu, machine.arch, machine.mmio)
            gpas = {bar.region.name: bar.gpa for bar in device.bars}
            bar2 = facts(context, RunFailure(errno.EFAULT), gpas["BAR2"])
            bar4 = facts(context, RunFailure(errno.EFAULT), gpas["BAR4"])
            assert bar2.pfnmap
            assert bar4.pfnmap
            assert not bar2.rejected_as_cacheable
            assert bar4.rejected_as_cacheable is machine.vm.host.rejects_cacheable_pfnmap
