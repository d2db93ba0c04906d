# SPDX-License-Identifier: GPL-2.0-only
"""A VMM to be traced: takes the exits that its argument asks for, prints the seconds it took."""

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
from tests.bench.exits import GPA, PORT, SIZE, Sink


@contextmanager
def ready(exits: int) -> Iterator[Machine]:
    """A machine that is about to take that many exits, and halt."""
    with System.open() as system, Machine(system, console=io.BytesIO()) as machine:
        machine.mmio.attach(GPA, SIZE, Sink())
        machine.ports.attach(PORT, 1, Sink())
        machine.windows.append(identity(GPA, SIZE, MemoryType.DEVICE))
        machine.load(Payload.builtin("exits", machine.arch.NAME))
        machine.enter(repeat.pack(exits, PORT if machine.arch.CONSOLE_IS_PORT else GPA))
        yield machine


def main(exits: int) -> float:
    with ready(exits) as machine:
        start = time.perf_counter()
        machine.run()
        return time.perf_counter() - start


if __name__ == "__main__":
    print(main(int(sys.argv[1])))
