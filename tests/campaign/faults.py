# SPDX-License-Identifier: GPL-2.0-only
"""Faults in a row: each page becomes inaccessible again after the handler has fixed it."""

import gc
import io
from collections.abc import Iterator

from pyvmm import libc
from pyvmm.arch.page_tables import MemoryType, identity
from pyvmm.guest import snippet
from pyvmm.kvm import System
from pyvmm.machine import Machine
from pyvmm.memory import PAGE_SIZE, PROT_NONE, Mapping
from tests.campaign.campaign import Campaign

_GPA, _DEVICE = 1 << 32, 2 << 32
# ldr w4, [x2]; str w4, [x5]; subs x6, x6, #1; b.ne to the first
_LOOP = (0xB9400044, 0xB90000A4, 0xF10004C6, 0x54FFFFA1)


class PageBreaker:
    """An emulated device; each write to it makes the page inaccessible."""

    def __init__(self, memory: Mapping) -> None:
        self._memory = memory

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        libc.mprotect(self._memory.hva, PAGE_SIZE, PROT_NONE)


def _run(runs: range) -> Iterator[str]:
    with (
        System.open() as system,
        Machine(system, console=io.BytesIO()) as machine,
        Mapping.anonymous(PAGE_SIZE) as memory,
    ):
        libc.mprotect(memory.hva, PAGE_SIZE, PROT_NONE)
        machine.vm.memslots.add(_GPA, memory)
        machine.mmio.attach(_DEVICE, PAGE_SIZE, PageBreaker(memory))
        machine.windows += [
            identity(_GPA, PAGE_SIZE),
            identity(_DEVICE, PAGE_SIZE, MemoryType.DEVICE),
        ]
        machine.load(snippet.payload(_LOOP))
        machine.enter(snippet.pack([0, 0, _GPA, 0, 0, _DEVICE, len(runs)]))
        gc.collect()
        gc.disable()
        try:
            machine.run()
        finally:
            gc.enable()
        if (cycles := gc.collect()) > len(runs) / 4:
            yield f"{cycles} objects in reference cycles after {len(runs)} faults"
        if machine.faults.counts != {"hva-no-access": len(runs)}:
            yield f"of {len(runs)} faults, {machine.faults.counts} were reported"
        # Counted above; a fault that the guard takes for the previous one replaces its record.
        outcomes = {record.outcome for record in machine.faults.records}
        if outcomes != {"resolved"}:
            yield f"the outcomes are {sorted(outcomes)}"


CAMPAIGN = Campaign(
    runs=100_000, short=500, batch=250, limit=300, run=_run, lab=("--kernel", "lab")
)
