# SPDX-License-Identifier: GPL-2.0-only
"""Lives of a VM: create it, change its memslots, run its vCPU, close it."""

import io
import random
from collections.abc import Iterator
from contextlib import ExitStack

from pyvmm.guest.payload import Payload
from pyvmm.kvm import System
from pyvmm.kvm.memslots import MemslotError
from pyvmm.machine import Machine
from pyvmm.memory import PAGE_SIZE, Mapping
from tests.campaign.campaign import Campaign

_GPA = 1 << 32
_PAGES = 64


def _live(system: System, chance: random.Random) -> str:
    """Live through one VM and return what its guest printed."""
    console = io.BytesIO()
    with ExitStack() as stack:
        machine = stack.enter_context(Machine(system, console=console))
        slots = machine.vm.memslots
        for _ in range(chance.randrange(8)):
            size = chance.randint(1, _PAGES) * PAGE_SIZE
            memory = stack.enter_context(Mapping.anonymous(size))
            try:
                slot = slots.add(_GPA + chance.randrange(_PAGES) * PAGE_SIZE, memory)
            except MemslotError:  # it overlaps with another one
                continue
            if chance.random() < 0.3:
                slots.remove(slot)
        machine.load(Payload.builtin("hello", machine.arch.NAME))
        for _ in range(chance.randint(1, 2)):
            machine.enter()
            machine.run()
        if chance.random() < 0.5:
            stack.pop_all().close()
    return console.getvalue().decode()


def _run(runs: range) -> Iterator[str]:
    with System.open() as system:
        for number in runs:
            printed = _live(system, random.Random(number))
            if not printed.startswith("Hello from "):
                yield f"VM {number}: the guest printed {printed!r}"


CAMPAIGN = Campaign(runs=1000, short=200, batch=50, limit=120, run=_run)
