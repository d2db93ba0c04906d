# SPDX-License-Identifier: GPL-2.0-only
"""A machine to run payloads on, and its console."""

import io
from collections.abc import Iterator

import pytest

from pyvmm.kvm import System
from pyvmm.machine import Machine


@pytest.fixture
def console() -> io.BytesIO:
    """Return the buffer for the guest's console output."""
    return io.BytesIO()


@pytest.fixture
def machine(kvm: System, console: io.BytesIO) -> Iterator[Machine]:
    """Create a machine with the minimum RAM."""
    with Machine(kvm, console=console) as machine:
        yield machine
