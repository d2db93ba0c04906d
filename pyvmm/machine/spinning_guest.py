# SPDX-License-Identifier: GPL-2.0-only
"""A guest that reads one word in an endless loop without exits, to be inspected meanwhile."""

import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pyvmm.errors import PyvmmError
from pyvmm.guest.payload import Payload
from pyvmm.kvm.exits import Interrupted
from pyvmm.machine.machine import ARGUMENT_BLOCK, Machine
from pyvmm.machine.run_loop import RunOutcome

_BLOCK = struct.Struct("<QQ")  # GVA, number of reads
_TIMEOUT = 60.0  # seconds until the first read; an emulated host is slow
_POLL_INTERVAL = 0.005  # seconds


@contextmanager
def spinning_guest(machine: Machine, gva: int) -> Iterator[None]:
    """Let the guest read the 32-bit word at `gva` in a loop, in its own thread.

    The body of the ``with`` statement starts after the first read; the guest is stopped at its
    end. `machine.windows` must map `gva`. Raises `PyvmmError` if the guest stops before that.
    """
    outcomes: list[RunOutcome] = []
    machine.load(Payload.builtin("read_loop", machine.arch.NAME))
    machine.enter(_BLOCK.pack(gva, 0))
    thread = threading.Thread(target=lambda: outcomes.append(machine.run()), name="vcpu")
    thread.start()
    try:
        if _wait_for_read(machine, thread):
            yield
    finally:
        machine.vcpu.stop()
        thread.join()
        machine.vcpu.resume()
    if not outcomes or not isinstance(outcomes[0].last_exit, Interrupted):
        last_exit = outcomes[0].last_exit if outcomes else "an exception"
        raise PyvmmError(
            f"the guest stopped with {last_exit}: check that a memslot or device is at GVA {gva:#x}"
        )


def _wait_for_read(machine: Machine, thread: threading.Thread) -> bool:
    """Wait for the guest's first read; return False if the guest stopped before it."""
    deadline = time.monotonic() + _TIMEOUT
    while thread.is_alive():
        _, count = _BLOCK.unpack(machine.read(ARGUMENT_BLOCK, _BLOCK.size))
        if count:
            return True
        if time.monotonic() > deadline:
            raise PyvmmError(f"the guest has not read the word within {_TIMEOUT:g} s")
        time.sleep(_POLL_INTERVAL)
    return False
