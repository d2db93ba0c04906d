# SPDX-License-Identifier: GPL-2.0-only
"""Failures of another process's VM, from its ioctl to the explanation."""

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from pyvmm.errors import LackingError, PyvmmError, SkippedError, UsageError
from pyvmm.explain import live
from pyvmm.explain.live import LiveFailure
from pyvmm.memory import PAGE_SIZE
from pyvmm.provenance import Recorder
from pyvmm.why import Host

ROOT = Path(__file__).parents[2]
GPA = 1 << 32
PRELUDE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from contextlib import ExitStack, suppress
from pyvmm import libc
from pyvmm.faults import Fix
from pyvmm.kvm.memslots import MemslotError
from pyvmm.kvm.system import System
from pyvmm.memory import PAGE_SIZE
from pyvmm.provoke.testbed import Testbed

def pause(*values):
    print(*values, flush=True)
    sys.stdin.readline()

stack = ExitStack()
testbed = Testbed(stack.enter_context(System.open()), stack)
testbed.machine.faults.policy = lambda fault: Fix.STOP
"""
UNMAPS = """
hva = testbed.add_anonymous()

def unmap():
    pause(hva)
    libc.munmap(hva, PAGE_SIZE)

testbed.read(before_run=unmap)
pause("failed")
"""
REJECTED = """
pause()
with suppress(MemslotError):
    testbed.machine.vm.memslots.add(1 << 32 | 1, testbed.machine.ram)
pause()
"""


class Vmm:
    """A VMM in another process, which waits for `go` at each of its pauses."""

    def __init__(self, program: str) -> None:
        argv = [sys.executable, "-c", PRELUDE + textwrap.dedent(program)]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._input: IO[str] = self.process.stdin
        self._output: IO[str] = self.process.stdout
        self.values = [int(word) for word in self._output.readline().split()]

    def go(self) -> None:
        self._input.write("\n")
        self._input.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._input.close()
        self._output.close()


@pytest.fixture
def start() -> Iterator[Callable[[str], Vmm]]:
    """Return a function that starts a VMM and waits for its first pause."""
    vmms: list[Vmm] = []

    def start(program: str) -> Vmm:
        vmms.append(Vmm(program))
        return vmms[-1]

    yield start
    for vmm in vmms:
        vmm.close()


def record(vmm: Vmm) -> Recorder:
    try:
        return live.record(vmm.process.pid)
    except (LackingError, SkippedError) as error:
        pytest.skip(f"{error}; the emulated host has it: pytest --lab")


def failure_of(vmm: Vmm, host: Host) -> LiveFailure:
    with record(vmm) as recorder:
        vmm.go()
        path = live.wait(vmm.process.pid, recorder, 60, lambda: None)
    return live.explain(vmm.process.pid, path, host, None)


@pytest.mark.needs_arch("aarch64")
def test_an_access_to_unmapped_memory(start: Callable[[str], Vmm], host: Host) -> None:
    vmm = start(UNMAPS)
    [hva] = vmm.values
    failure = failure_of(vmm, host)
    assert (failure.path.ioctl, failure.path.result) == ("KVM_RUN", "-EFAULT")
    assert failure.path.fault is not None
    assert (failure.path.fault.gpa, failure.path.fault.access) == (GPA, "read")
    assert failure.hva == hva
    assert failure.vma is None
    assert failure.slot is not None
    assert failure.slot.hva_of(GPA) == hva
    assert failure.verdict == ("hva-unmapped",)
    [(name, why)] = failure.causes
    assert name == "hva-unmapped"
    assert f"{hva:#x}" in why


def test_a_rejected_memslot(start: Callable[[str], Vmm], host: Host) -> None:
    failure = failure_of(start(REJECTED), host)
    assert failure.path.ioctl == "KVM_SET_USER_MEMORY_REGION"
    assert failure.path.result == "-EINVAL"
    assert failure.slot is not None
    assert failure.slot.gpa == GPA | 1
    assert "gpa-unaligned" in [name for name, _ in failure.causes]
    assert [f.name for f in failure.findings if f.mark == "known"] == ["gpa-unaligned"]
    assert failure.slot.size % PAGE_SIZE == 0


def test_no_failure_in_time(start: Callable[[str], Vmm]) -> None:
    vmm = start("pause(1)")
    with record(vmm) as recorder, pytest.raises(PyvmmError, match=r"no ioctl .* in 0\.2 s"):
        live.wait(vmm.process.pid, recorder, 0.2, lambda: None)


def test_a_process_that_ends(start: Callable[[str], Vmm]) -> None:
    vmm = start("pause(1)")
    with record(vmm) as recorder:
        vmm.close()
        with pytest.raises(PyvmmError, match="ended"):
            live.wait(vmm.process.pid, recorder, None, lambda: None)


def test_no_such_process() -> None:
    with pytest.raises(UsageError, match="no process"):
        live.record((1 << 22) + 1)
