# SPDX-License-Identifier: GPL-2.0-only
"""An emulated host, and the documents of commands that ran in such hosts, shared by all tests."""

import io
import json
from typing import Any

import pytest

from pyvmm.errors import LackingError, Status
from pyvmm.lab import host, kernel, lab_devices, matrix, qemu
from pyvmm.lab.apt import no_progress
from pyvmm.lab.causes import PROVOKE_SCHEMA
from tests.json_documents import check, valid

MATRIX_CPUS = ("max", "neoverse-n1")
MATRIX_NAMES = ("anonymous-unmapped", "outside", "cacheable-registered")
_PYVMM = ["python3", "-m", "pyvmm"]
_TIMEOUT = 1200


@pytest.fixture(scope="session")
def emulated() -> host.Host:
    """Return a host with the lab's kernel if it is built, otherwise with Debian's."""
    try:
        found = kernel.find(None, no_progress)
        assert found is not None
        return host.prepare(qemu.find(no_progress), found, qemu.EmulatedMachine(), no_progress)
    except LackingError as error:
        pytest.skip(f"cannot set up the lab: {error}")


def _prepare(emulated: host.Host, cpu: str, *devices: str) -> host.Host:
    machine = qemu.EmulatedMachine(cpu=cpu, devices=tuple(lab_devices.lookup(devices)))
    return host.prepare(emulated.qemu, emulated.kernel, machine, no_progress)


@pytest.fixture(scope="session")
def provoked_matrix(emulated: host.Host) -> dict[str, Any]:
    """Return the document of a matrix of two CPUs, one of which lacks FWB and DIC."""
    devices = ["grace"] if emulated.kernel.name == "lab" else []
    hosts = [_prepare(emulated, cpu, *devices) for cpu in MATRIX_CPUS]
    command = ["provoke", *MATRIX_NAMES, "--provenance", "--json"]
    cells = matrix.run(hosts, [*_PYVMM, *command], _TIMEOUT, no_progress)
    assert [cell.status for cell in cells] == [Status.DONE, Status.DONE]
    document: dict[str, Any] = valid(json.dumps(matrix.document(cells, command)))
    for run in document["runs"]:
        check(run["stdout"], PROVOKE_SCHEMA)
    return document


@pytest.fixture(scope="session")
def faulting_run(emulated: host.Host) -> dict[str, Any]:
    """Return the document of a run whose guest faults twice, on a CPU without FWB and DIC."""
    if emulated.kernel.name != "lab":
        pytest.skip("needs the lab's kernel, which has nvgrace: python -m pyvmm lab setup")
    command = ["--vfio", "0000:01:00.0", "--flip", "BAR4", "--on-fault", "replay", "--json"]
    stdout, stderr = io.BytesIO(), io.BytesIO()
    status = _prepare(emulated, "neoverse-n1", "grace").run(
        [*_PYVMM, *command], stdout=stdout, stderr=stderr, timeout=_TIMEOUT
    )
    assert status == Status.DONE, stderr.getvalue()
    document: dict[str, Any] = valid(stdout.getvalue().decode())
    return document
