# SPDX-License-Identifier: GPL-2.0-only
"""Faults of four vCPUs that count in 16 pages while these break, move and are emulated."""

import io
from collections.abc import Callable, Iterator
from contextlib import closing

from pyvmm.faults.fault import Fix
from pyvmm.faults.policy import always
from pyvmm.kvm import System
from pyvmm.machine import Machine
from pyvmm.memory import PROT_READ, PROT_WRITE, Mapping
from tests.campaign.campaign import Campaign
from tests.faults.vcpus import GPA, PAGES, Breaker, CountingGuest

_BATCH = 250


def _run(runs: range) -> Iterator[str]:
    fix = (Fix.REPLAY, Fix.REPLAY, Fix.EMULATE)[runs.start // _BATCH % 3]
    with (
        System.open() as system,
        Machine(system, console=io.BytesIO()) as machine,
        Mapping.anonymous(PAGES << 12) as memory,
    ):
        counts = machine.faults.counts
        machine.faults.policy = always(fix)
        machine.vm.memslots.add(GPA, memory)
        guest = CountingGuest(system, machine, vcpus=4)
        with closing(Breaker(machine, memory, pages=8)) as breaker:

            def breakers() -> Iterator[Callable[[], None]]:
                while counts.total() < len(runs):
                    yield breaker

            guest.run(breakers())
            breaker.memory.protect(PROT_READ | PROT_WRITE)
            guest.check(breaker.memory.read)
        if set(counts) != {"hva-no-access"}:
            yield f"the causes are {dict(counts)}"
        outcomes = {(record.fix, record.outcome) for record in machine.faults.records}
        if outcomes != {(fix, "resolved")}:
            yield f"the outcomes are {sorted(outcomes)}"


CAMPAIGN = Campaign(
    runs=100_000, short=100, batch=_BATCH, limit=300, run=_run, lab=("--kernel", "lab")
)
