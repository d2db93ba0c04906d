# SPDX-License-Identifier: GPL-2.0-only
"""A guest that stays: it reads one word over and over, without an exit, while you look at it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pyvmm.errors import PyvmmError
from pyvmm.guest import repeat
from pyvmm.guest.payload import Payload
from pyvmm.kvm.exits import Interrupted
from pyvmm.machine import Machine
from pyvmm.machine.run import Outcome

_FOREVER = (1 << 63) - 1


@contextmanager
def lingering(machine: Machine, gva: int) -> Iterator[None]:
    """While the block runs, the guest reads the 32-bit word at `gva`, in a thread of its own.

    It stops there and nowhere else; `machine.windows` have to show `gva`. Raises `PyvmmError`
    where the guest did not last until the end of the block.
    """
    outcomes: list[Outcome] = []
    machine.load(Payload.builtin("loads", machine.arch.NAME))
    machine.enter(repeat.pack(_FOREVER, gva))
    thread = threading.Thread(target=lambda: outcomes.append(machine.run()), name="vcpu")
    thread.start()
    try:
        yield
    finally:
        machine.vcpu.stop()
        thread.join()
        machine.vcpu.resume()
    if not outcomes or not isinstance(outcomes[0].ending, Interrupted):
        raise PyvmmError(f"the guest came to {outcomes[0].ending if outcomes else 'nothing'}")
