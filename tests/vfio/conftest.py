# SPDX-License-Identifier: GPL-2.0-only
"""The emulated arm64 host's devices, wherever they sit, bound to their vfio drivers by it."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyvmm.testing.needs import DEVICES
from pyvmm.vfio import device_nodes
from pyvmm.vfio.iommu_modes import open_device
from pyvmm.vfio.sysfs import PCI, PciFunction
from pyvmm.vfio.vfio_device import VfioDevice
from tests.devices import Find
from tests.vfio.edu import Edu
from tests.vfio.events import EventFd


@pytest.fixture(params=DEVICES)
def function(request: pytest.FixtureRequest, find: Find) -> PciFunction:
    """Each device of the lab."""
    return find(request.param)


@pytest.fixture(params=["iommufd", "vfio_type1v2_iommu"])
def second_mode(request: pytest.FixtureRequest) -> str:
    """A mode of each family: through a cdev, and through a group."""
    return _built_in(request.param)


@pytest.fixture
def iommufd() -> str:
    """The mode through a cdev."""
    return _built_in("iommufd")


def _built_in(mode: str) -> str:
    if mode.startswith("iommufd") and not device_nodes.IOMMUFD.exists():
        pytest.skip("this kernel was built without IOMMUFD: python -m pyvmm lab test --kernel lab")
    return mode


@pytest.fixture
def nvme(find: Find) -> Iterator[VfioDevice]:
    """The NVMe disk, opened."""
    with open_device(find("nvme").bdf) as device:
        yield device


@pytest.fixture
def bochs(find: Find) -> Iterator[VfioDevice]:
    """The display, opened; its BAR0 is memory."""
    with open_device(find("bochs").bdf) as device:
        yield device


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    """Every test ends with the descriptors that it began with."""
    before = _open_files()
    yield
    left = _open_files() - before
    assert not [path for path in left if "vfio" in path or "iommu" in path or "event" in path]


def _open_files() -> set[str]:
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them is gone again
            found.add(f"{fd.name} {fd.readlink()}")
    return found


@pytest.fixture
def grace(find: Find) -> Iterator[VfioDevice]:
    """The Grace-style GPU, opened."""
    with open_device(find("grace").bdf) as device:
        yield device


@pytest.fixture
def edu_function(find: Find) -> PciFunction:
    """The teaching device, not opened."""
    return find("edu")


@pytest.fixture
def edu(edu_function: PciFunction) -> Iterator[Edu]:
    """The teaching device, opened."""
    with open_device(edu_function.bdf) as device:
        yield Edu(device)


@pytest.fixture
def edu_in_mode(edu_function: PciFunction, iommu_mode: str) -> Iterator[Edu]:
    """The teaching device, opened in each IOMMU mode."""
    with open_device(edu_function.bdf, iommu_mode) as device:
        yield Edu(device)


@pytest.fixture
def eventfd() -> Iterator[EventFd]:
    """An eventfd."""
    event = EventFd()
    yield event
    event.close()


@pytest.fixture
def driverless(find: Find) -> Iterator[PciFunction]:
    """The NVMe disk, taken from vfio: no driver has it, any that matches may."""
    function = find("nvme")
    (function.path / "driver_override").write_text("\n")
    (function.path / "driver" / "unbind").write_text(str(function))
    yield function
    (function.path / "driver_override").write_text("vfio-pci")
    if function.driver != "vfio-pci":
        if function.driver:
            (function.path / "driver" / "unbind").write_text(str(function))
        (PCI / "drivers_probe").write_text(str(function))


@pytest.fixture
def nvme_with_its_driver(driverless: PciFunction) -> PciFunction:
    """The NVMe disk as a host has it: nvme drives it, and it is a block device."""
    (PCI / "drivers" / "nvme" / "bind").write_text(str(driverless))
    deadline = time.monotonic() + 10
    while not list(driverless.path.glob("nvme/*/nvme*n1")):  # the namespace is scanned in a worker
        assert time.monotonic() < deadline, "nvme shows no disk"
        time.sleep(0.05)
    return driverless
