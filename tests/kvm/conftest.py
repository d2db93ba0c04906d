# SPDX-License-Identifier: GPL-2.0-only
"""A guest that makes the accesses of a test."""

import io
from collections.abc import Callable, Iterator

import pytest

from pyvmm.arch.page_tables import MemoryType, identity
from pyvmm.guest.payload import Payload
from pyvmm.guest.probe import Probe, ProbeResult, pack, unpack
from pyvmm.kvm import System
from pyvmm.machine import ARGUMENT_BLOCK, Machine
from pyvmm.machine.run_loop import RunOutcome
from tests.kvm.gpas import DEVICE_GPA, MEMORY_GPA, WINDOW

Touch = Callable[..., tuple[RunOutcome, list[ProbeResult]]]


@pytest.fixture
def machine(kvm: System) -> Iterator[Machine]:
    """Yield a machine whose guest maps `MEMORY_GPA` and `DEVICE_GPA`; nothing is there yet."""
    with Machine(kvm, console=io.BytesIO()) as machine:
        machine.windows.append(identity(MEMORY_GPA, WINDOW))
        machine.windows.append(identity(DEVICE_GPA, WINDOW, MemoryType.DEVICE))
        yield machine


@pytest.fixture
def touch(machine: Machine) -> Touch:
    """Return a function that runs a guest with these accesses, in order."""

    def touch(*probes: Probe) -> tuple[RunOutcome, list[ProbeResult]]:
        machine.load(Payload.builtin("probe", machine.arch.NAME))
        block = pack(probes)
        machine.enter(block)
        outcome = machine.run()
        return outcome, unpack(probes, machine.read(ARGUMENT_BLOCK, len(block)))

    return touch
