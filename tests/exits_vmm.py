# SPDX-License-Identifier: GPL-2.0-only
"""A VMM that takes a given number of exits, to be traced or timed.

As a program, it prints how many seconds its run loop took: python -m tests.exits_vmm COUNT
"""

import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pyvmm.arch.page_tables import MemoryType, identity
from pyvmm.guest import repeat
from pyvmm.guest.payload import Payload
from pyvmm.kvm import System
from pyvmm.machine import Machine

PORT, GPA, SIZE = 0x80, 0x0A00_0000, 0x1000  # a port on x86-64, a GPA on arm64


class Sink:
    """A device that ignores every write."""

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        pass


@contextmanager
def exiting_machine(exits: int, payload: str = "exits") -> Iterator[Machine]:
    """Yield a machine whose guest will store `exits` times to a device, and then halt."""
    with System.open() as system, Machine(system, console=io.BytesIO()) as machine:
        machine.mmio.attach(GPA, SIZE, Sink())
        machine.ports.attach(PORT, 1, Sink())
        machine.windows.append(identity(GPA, SIZE, MemoryType.DEVICE))
        machine.load(Payload.builtin(payload, machine.arch.NAME))
        machine.enter(repeat.pack(exits, PORT if machine.arch.CONSOLE_IS_PORT else GPA))
        yield machine


def main(exits: int) -> float:
    """Run the guest and return the seconds that it took."""
    with exiting_machine(exits) as machine:
        start = time.perf_counter()
        machine.run()
        return time.perf_counter() - start


if __name__ == "__main__":
    print(main(int(sys.argv[1])))
