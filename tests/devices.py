# SPDX-License-Identifier: GPL-2.0-only
"""The lab's devices, which the lab binds to their vfio drivers."""

from collections.abc import Callable

import pytest

from pyvmm.testing import needs
from pyvmm.vfio.sysfs import PciFunction

Find = Callable[[str], PciFunction]


@pytest.fixture(scope="session")
def find() -> Find:
    """Return a function that finds a lab device by name, or skips the test."""

    def found(name: str) -> PciFunction:
        for function in needs.find_devices(name):
            return function
        pytest.skip(needs.missing_device(name))

    return found
