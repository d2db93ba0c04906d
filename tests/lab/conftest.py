# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures for tests on real emulated hosts; missing parts are downloaded."""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TextIO

import pytest

from pyvmm.errors import LackingError
from pyvmm.lab import host, kernel, lab_devices, qemu
from pyvmm.lab.apt import no_progress
from pyvmm.lab.watch import Note


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "PYVMM_LAB" in os.environ:
        pytest.skip("the lab does not run in the lab: run pytest outside")


@pytest.fixture(scope="session")
def emulated() -> host.Host:
    """Return a host with the lab's kernel if it is built, otherwise with Debian's."""
    try:
        found = kernel.find(None, no_progress)
        assert found is not None
        return host.prepare(qemu.find(no_progress), found, qemu.EmulatedMachine(), no_progress)
    except LackingError as error:
        pytest.skip(f"cannot set up the lab: {error}")


@dataclass(frozen=True)
class Result:
    """The exit status and output of a command."""

    status: int
    stdout: bytes
    stderr: bytes


Run = Callable[..., Result]


@pytest.fixture
def run(emulated: host.Host) -> Run:
    """Return a function that runs a command on a new host.

    Keywords are fields of `qemu.EmulatedMachine`, and those of `host.Host.run`.
    """

    def run(
        *command: str,
        timeout: float = 300,
        note: Note | None = None,
        dmesg: TextIO | None = None,
        **machine: object,
    ) -> Result:
        if "devices" in machine:
            machine["devices"] = tuple(lab_devices.lookup(machine["devices"]))  # type: ignore[arg-type]
        changed = replace(emulated, machine=replace(emulated.machine, **machine))  # type: ignore[arg-type]
        out, err = io.BytesIO(), io.BytesIO()
        status = changed.run(
            command, stdout=out, stderr=err, timeout=timeout, note=note, dmesg=dmesg
        )
        return Result(status, out.getvalue(), err.getvalue())

    return run
