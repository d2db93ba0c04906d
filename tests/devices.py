# SPDX-License-Identifier: GPL-2.0-only
"""The lab's devices, which the lab binds to their vfio drivers, and vgem's memory."""

from collections.abc import Callable, Iterator

import pytest

from pyvmm.errors import SkippedError
from pyvmm.ioctl import Fd
from pyvmm.memory import PAGE_SIZE
from pyvmm.provoke import dma_buffers
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


@pytest.fixture
def drm_shmem() -> Iterator[Fd]:
    """Yield a dma-buf of one page of drm-shmem memory, or skip the test."""
    try:
        buffer = dma_buffers.of_vgem(PAGE_SIZE)
    except SkippedError as error:
        pytest.skip(str(error))
    with buffer:
        yield buffer
