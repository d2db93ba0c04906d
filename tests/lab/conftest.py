# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures for tests on real emulated hosts; missing parts are downloaded."""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TextIO

import pytest

from pyvmm.lab import host, lab_devices
from pyvmm.lab.watch import Note


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "PYVMM_LAB" in os.environ:
        pytest.skip("the lab does not run in the lab: run pytest outside")


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
        if isinstance(machine.get("devices"), list):  # of names
            machine["devices"] = tuple(lab_devices.lookup(machine["devices"]))  # type: ignore[arg-type]
        changed = replace(emulated, machine=replace(emulated.machine, **machine))  # type: ignore[arg-type]
        out, err = io.BytesIO(), io.BytesIO()
        status = changed.run(
            command, stdout=out, stderr=err, timeout=timeout, note=note, dmesg=dmesg
        )
        return Result(status, out.getvalue(), err.getvalue())

    return run
