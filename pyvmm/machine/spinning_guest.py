# SPDX-License-Identifier: GPL-2.0-only
"""A guest that stays: it reads one word over and over, without an exit, while you look at it."""

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

_BLOCK = struct.Struct("<QQ")  # address, how often it was read
_PATIENCE = 60.0  # seconds for the first read, on a busy machine in an emulated one
_PAUSE = 0.005


@contextmanager
def spinning_guest(machine: Machine, gva: int) -> Iterator[None]:
    """While the block runs, the guest reads the 32-bit word at `gva`, in a thread of its own.

    When the block begins it has done so already; it stops at the block's end and nowhere else.
    `machine.windows` have to show `gva`. Raises `PyvmmError` where the guest can't stay.
    """
    outcomes: list[RunOutcome] = []
    machine.load(Payload.builtin("read_loop", machine.arch.NAME))
    machine.enter(_BLOCK.pack(gva, 0))
    thread = threading.Thread(target=lambda: outcomes.append(machine.run()), name="vcpu")
    thread.start()
    try:
        if _begun(machine, thread):
            yield
    finally:
        machine.vcpu.stop()
        thread.join()
        machine.vcpu.resume()
    if not outcomes or not isinstance(outcomes[0].last_exit, Interrupted):
        raise PyvmmError(f"the guest came to {outcomes[0].last_exit if outcomes else 'nothing'}")


def _begun(machine: Machine, thread: threading.Thread) -> bool:
    """Wait for the guest's first read; False where it stopped before."""
    end = time.monotonic() + _PATIENCE
    while thread.is_alive():
        _, count = _BLOCK.unpack(machine.read(ARGUMENT_BLOCK, _BLOCK.size))
        if count:
            return True
        if time.monotonic() > end:
            raise PyvmmError(f"the guest has not read a word in {_PATIENCE:g} s")
        time.sleep(_PAUSE)
    return False
