# SPDX-License-Identifier: GPL-2.0-only
"""One test file for two kernels: arm64 as it is, and with the patch beside this file.

    python -m pyvmm lab setup --kernel lab:memory-fault-info \
        --patch examples/kernel/0001-KVM-arm64-memory-fault-info.patch
    pytest --lab --lab-kernel lab --lab-kernel lab:memory-fault-info -rP examples/kernel

No test asks which of them it is on. What KVM says of an access that it can't resolve differs, and
the capability announces it; what pyvmm makes of it, mends and goes on with does not.
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
from pyvmm.guest.probe import Op, Outcome, Probe, answers, pack
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
# One page of it is broken: into so small a hole no allocation of this process is likely to fall.
AT = 3 * PAGE_SIZE

# What is done to an HVA behind pyvmm's back, by the cause that it is to find.
_libc = ctypes.CDLL(None)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
BREAKS: dict[str, Callable[[int], int]] = {
    "hva-unmapped": lambda hva: _libc.munmap(hva, PAGE_SIZE),
    "hva-no-access": lambda hva: _libc.mprotect(hva, PAGE_SIZE, PROT_NONE),
    "hva-read-only": lambda hva: _libc.mprotect(hva, PAGE_SIZE, PROT_READ),
}


@pytest.mark.parametrize("cause", BREAKS)
def test_what_kvm_says(vm: Vm, guest: Guest, cause: str) -> None:
    """An address where the capability promises one; PC stays, so that mended is as good as new."""
    told = vm.check(KVM_CAP_MEMORY_FAULT_INFO)
    with Mapping.anonymous(SIZE) as memory:
        vm.memslots.add(GPA, memory)
        assert BREAKS[cause](memory.hva + AT) == 0
        run = guest("mov w4, #7; str w4, [x0]; ldr w5, [x0]", GPA + AT + 0x40)
        with_address = MemoryFault(gpa=GPA + AT, size=PAGE_SIZE, flags=0, errno=errno.EFAULT)
        run.expects(with_address if told else RunFailure(errno=errno.EFAULT))
        memory.place_anonymous(at=AT, size=PAGE_SIZE)
        run.expects(SystemOff())
        assert run["x5"] == 7


@pytest.mark.parametrize("cause", BREAKS)
def test_what_pyvmm_makes_of_it(kvm: System, cause: str) -> None:
    """Rebuilt from the vCPU or told by KVM: the same access, cause, fix and result."""
    probes = [Probe(GPA + AT + 0x40, op=Op.WRITE, value=0x1234), Probe(GPA + AT + 0x40)]
    with Machine(kvm, console=io.BytesIO()) as machine, Mapping.anonymous(SIZE) as memory:
        machine.vm.memslots.add(GPA, memory)
        machine.windows.append(identity(GPA, SIZE))
        machine.faults.policy = always(Fix.REPLAY)
        machine.load(Payload.builtin("probe", "arm64"))
        machine.enter(pack(probes))
        assert BREAKS[cause](memory.hva + AT) == 0
        ending = machine.run().last_exit
        result = answers(probes, machine.read(ARGUMENT_BLOCK, len(pack(probes))))
        [record] = machine.faults.records
        report = record.fault.report
        told = machine.vm.check(KVM_CAP_MEMORY_FAULT_INFO)

    assert isinstance(report.exit, Exit)
    print(f"KVM_CAP_MEMORY_FAULT_INFO {told}: {describe(report.exit)}, address {report.source}")
    access = f"{report.access} at GPA {report.gpa:#x} by {report.detail.instruction}"
    print(f"{access}: {record.fault.cause}")
    print(f"{record.fix}, {record.outcome}: {record.how}; the guest read {result[1].value:#x}")
    assert report.source == ("kernel" if told else "reconstructed")
    assert (report.access, record.fault.cause) == ("write", cause)
    assert report.gpa is not None
    assert report.gpa & -PAGE_SIZE == GPA + AT
    assert (record.fix, record.outcome) == (Fix.REPLAY, "resolved")
    assert [answer.outcome for answer in result] == [Outcome.OK] * 2
    assert result[1].value == 0x1234
    assert isinstance(ending, SystemEvent)
