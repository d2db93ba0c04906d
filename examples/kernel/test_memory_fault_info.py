# SPDX-License-Identifier: GPL-2.0-only
"""Test two kernels with one file: arm64 as it is, and with the patch in this directory.

    python -m pyvmm lab setup --kernel lab:memory-fault-info \
        --patch examples/kernel/0001-KVM-arm64-memory-fault-info.patch
    pytest --lab --lab-kernel lab --lab-kernel lab:memory-fault-info -rP examples/kernel

The tests do not look at the kernel's version. The kernels differ in what they report of an access
that KVM cannot resolve, and KVM_CAP_MEMORY_FAULT_INFO announces it. The cause that pyvmm finds, the
fix and the result are the same.
"""

import ctypes
import errno
import io
from collections.abc import Callable

import pytest

from pyvmm.arch.page_tables import identity
from pyvmm.faults import Fix
from pyvmm.faults.policy import always
from pyvmm.guest.payload import Payload
from pyvmm.guest.probe import Op, Probe, ProbeOutcome, pack, unpack
from pyvmm.kvm import System, Vm
from pyvmm.kvm.exits import Exit, SystemEvent
from pyvmm.machine import ARGUMENT_BLOCK, Machine
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, Mapping
from pyvmm.testing import MemoryFault, RunFailure, SystemOff
from pyvmm.testing.expect import describe
from pyvmm.testing.guest import Guest
from pyvmm.uapi.kvm import KVM_CAP_MEMORY_FAULT_INFO

pytestmark = pytest.mark.needs_arch("aarch64")

GPA, SIZE = 0x8000_0000, 16 * PAGE_SIZE
# Only one page is broken: no later allocation of this process is likely to land in so small a hole.
AT = 3 * PAGE_SIZE

# How to break the mapping at an HVA, by the cause that pyvmm must find.
_libc = ctypes.CDLL(None)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
BREAKS: dict[str, Callable[[int], int]] = {
    "hva-unmapped": lambda hva: _libc.munmap(hva, PAGE_SIZE),
    "hva-no-access": lambda hva: _libc.mprotect(hva, PAGE_SIZE, PROT_NONE),
    "hva-read-only": lambda hva: _libc.mprotect(hva, PAGE_SIZE, PROT_READ),
}


@pytest.mark.parametrize("cause", BREAKS)
def test_exit(vm: Vm, guest: Guest, cause: str) -> None:
    """KVM reports the address if it has the capability; PC stays, so a fixed access is replayed."""
    reported = vm.check(KVM_CAP_MEMORY_FAULT_INFO)
    with Mapping.anonymous(SIZE) as memory:
        vm.memslots.add(GPA, memory)
        assert BREAKS[cause](memory.hva + AT) == 0
        run = guest("mov w4, #7; str w4, [x0]; ldr w5, [x0]", GPA + AT + 0x40)
        with_address = MemoryFault(gpa=GPA + AT, size=PAGE_SIZE, flags=0, errno=errno.EFAULT)
        run.expects(with_address if reported else RunFailure(errno=errno.EFAULT))
        memory.place_anonymous(at=AT, size=PAGE_SIZE)
        run.expects(SystemOff())
        assert run["x5"] == 7


@pytest.mark.parametrize("cause", BREAKS)
def test_cause_and_fix(kvm: System, cause: str) -> None:
    """An address from KVM or from the vCPU gives the same access, cause, fix and result."""
    probes = [Probe(GPA + AT + 0x40, op=Op.WRITE, value=0x1234), Probe(GPA + AT + 0x40)]
    with Machine(kvm, console=io.BytesIO()) as machine, Mapping.anonymous(SIZE) as memory:
        machine.vm.memslots.add(GPA, memory)
        machine.windows.append(identity(GPA, SIZE))
        machine.faults.policy = always(Fix.REPLAY)
        machine.load(Payload.builtin("probe", "arm64"))
        machine.enter(pack(probes))
        assert BREAKS[cause](memory.hva + AT) == 0
        ending = machine.run().last_exit
        result = unpack(probes, machine.read(ARGUMENT_BLOCK, len(pack(probes))))
        [record] = machine.faults.records
        report = record.fault.report
        reported = machine.vm.check(KVM_CAP_MEMORY_FAULT_INFO)

    assert isinstance(report.exit, Exit)
    print(f"KVM_CAP_MEMORY_FAULT_INFO {reported}: {describe(report.exit)}, address {report.source}")
    access = f"{report.access} at GPA {report.gpa:#x} by {report.instruction}"
    print(f"{access}: {record.fault.cause}")
    print(f"{record.fix}, {record.outcome}: {record.how}; the guest read {result[1].value:#x}")
    assert report.source == ("kernel" if reported else "reconstructed")
    assert (report.access, record.fault.cause) == ("write", cause)
    assert report.gpa is not None
    assert report.gpa & -PAGE_SIZE == GPA + AT
    assert (record.fix, record.outcome) == (Fix.REPLAY, "resolved")
    assert [answer.outcome for answer in result] == [ProbeOutcome.OK] * 2
    assert result[1].value == 0x1234
    assert isinstance(ending, SystemEvent)
