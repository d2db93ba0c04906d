# SPDX-License-Identifier: GPL-2.0-only
"""A machine that a payload runs on, and what it prints."""

import io
from collections.abc import Iterator

import pytest

from pyvmm.kvm import System
from pyvmm.machine import Machine


@pytest.fixture
def console() -> io.BytesIO:
    """What the guest prints goes here."""
    return io.BytesIO()


@pytest.fixture
def machine(kvm: System, console: io.BytesIO) -> Iterator[Machine]:
    """A machine with the least RAM there is."""
    with Machine(kvm, console=console) as machine:
        yield machine
