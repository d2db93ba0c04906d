# SPDX-License-Identifier: GPL-2.0-only
"""The emulated arm64 host's devices, wherever they sit, bound to their vfio drivers by it."""

from collections.abc import Callable

import pytest

from pyvmm.vfio.sysfs import PciFunction, functions

# Name in the lab: vendor, device, and the vfio driver that has it there.
KNOWN = {
    "bochs": (0x1234, 0x1111, "vfio-pci"),
    "edu": (0x1234, 0x11E8, "vfio-pci"),
    "nvme": (0x1B36, 0x0010, "vfio-pci"),
    "grace": (0x1234, 0x1111, "nvgrace_gpu_vfio_pci"),
}

Find = Callable[[str], PciFunction]


@pytest.fixture(scope="session")
def find() -> Find:
    """The function that is a device of this name; skips where there is none."""

    def found(name: str) -> PciFunction:
        for function in functions():
            if (function.vendor, function.device, function.driver) == KNOWN[name]:
                return function
        pytest.skip(f"no {name} device that vfio has: python -m pyvmm lab test --device {name}")

    return found
