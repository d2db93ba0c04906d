# SPDX-License-Identifier: GPL-2.0-only
"""The emulated arm64 host's devices, wherever they sit, bound to their vfio drivers by it."""

from collections.abc import Callable

import pytest

from pyvmm.testing import needs
from pyvmm.vfio.sysfs import PciFunction

Find = Callable[[str], PciFunction]


@pytest.fixture(scope="session")
def find() -> Find:
    """The function that is a device of this name; skips where there is none."""

    def found(name: str) -> PciFunction:
        for function in needs.devices(name):
            return function
        pytest.skip(needs.no_device(name))

    return found
