# SPDX-License-Identifier: GPL-2.0-only
"""A VMM in another process, which pauses until the test lets it go on."""

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).parents[1]
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
# A guest reads memory at GPA 1 << 32 whose HVA, which the VMM prints, was unmapped.
READS_UNMAPPED_MEMORY = """
hva = testbed.add_anonymous()

def unmap():
    pause(hva)
    libc.munmap(hva, PAGE_SIZE)

testbed.read(before_run=unmap)
pause()
"""
# The same, but the guest has read it in a loop without exits before.
READS_MEMORY_IN_A_LOOP = """
import struct, threading
from pyvmm.guest.payload import Payload
from pyvmm.machine import ARGUMENT_BLOCK

hva, machine = testbed.add_anonymous(), testbed.machine
machine.load(Payload.builtin("read_loop", machine.arch.NAME))
machine.enter(struct.pack("<QQ", 1 << 32, 0))
threading.Thread(target=machine.vcpu.run, daemon=True).start()
while not any(machine.read(ARGUMENT_BLOCK + 8, 8)):
    pass
pause(hva)
libc.munmap(hva, PAGE_SIZE)
pause()
"""
REGISTERS_UNALIGNED_MEMORY = """
pause()
with suppress(MemslotError):
    testbed.machine.vm.memslots.add(1 << 32 | 1, testbed.machine.ram)
pause()
"""
WAITS = "pause()"


class OtherVmm:
    """The process.

    Attributes:
        values: what it printed before its first pause.
    """

    def __init__(self, program: str) -> None:
        """Start the program, and wait for its first pause."""
        argv = [sys.executable, "-c", PRELUDE + textwrap.dedent(program)]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input: IO[str] = self._process.stdin
        self._output: IO[str] = self._process.stdout
        self.pid = self._process.pid
        self.values = [int(word) for word in self._output.readline().split()]

    def go(self) -> None:
        """End its pause."""
        self._input.write("\n")
        self._input.flush()

    def close(self) -> None:
        """Kill the process. Idempotent."""
        self._process.kill()
        self._process.wait()
        self._input.close()
        self._output.close()


@pytest.fixture
def other_vmm() -> Iterator[Callable[[str], OtherVmm]]:
    """Return a function that starts a VMM in another process and waits for its first pause."""
    vmms: list[OtherVmm] = []

    def start(program: str) -> OtherVmm:
        vmms.append(OtherVmm(program))
        return vmms[-1]

    yield start
    for vmm in vmms:
        vmm.close()
