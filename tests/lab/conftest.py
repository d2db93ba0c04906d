# SPDX-License-Identifier: GPL-2.0-only
"""Real emulated hosts: what is not in the cache yet is fetched."""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from pyvmm.errors import LackingError
from pyvmm.lab import host, kernel, lab_devices, qemu


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "PYVMM_LAB" in os.environ:
        pytest.skip("the lab does not run in itself: run pytest on the machine that has it")


def quiet(what: str, done: float | None) -> None:
    """Tells nobody."""


@pytest.fixture(scope="session")
def emulated() -> host.Host:
    """A host with the lab's kernel where it has been built, else with Debian's."""
    try:
        found = kernel.find(None, quiet)
        assert found is not None
        return host.prepare(qemu.find(quiet), found, qemu.EmulatedMachine(), quiet)
    except LackingError as error:
        pytest.skip(f"the lab cannot be set up: {error}")


@dataclass(frozen=True)
class Ran:
    """How a command went there."""

    status: int
    stdout: bytes
    stderr: bytes


Run = Callable[..., Ran]


@pytest.fixture
def run(emulated: host.Host) -> Run:
    """Run a command on a new host; keywords are of its `Machine`, and ``timeout`` in seconds."""

    def run(*command: str, timeout: float = 300, **machine: object) -> Ran:
        if "devices" in machine:
            machine["devices"] = tuple(lab_devices.lookup(machine["devices"]))  # type: ignore[arg-type]
        changed = replace(emulated, machine=replace(emulated.machine, **machine))  # type: ignore[arg-type]
        out, err = io.BytesIO(), io.BytesIO()
        status = changed.run(command, stdout=out, stderr=err, timeout=timeout)
        return Ran(status, out.getvalue(), err.getvalue())

    return run
