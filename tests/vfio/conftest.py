# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures for the lab's devices, which the lab binds to their vfio drivers."""

import time
from collections.abc import Iterator

import pytest

from pyvmm.lab.lab_devices import DEVICES
from pyvmm.vfio import device_nodes
from pyvmm.vfio.iommu_modes import open_device
from pyvmm.vfio.sysfs import PCI, PciFunction
from pyvmm.vfio.vfio_device import VfioDevice
from tests.devices import Find
from tests.process import open_fds
from tests.vfio.edu import Edu
from tests.vfio.eventfd import EventFd


@pytest.fixture(params=DEVICES)
def function(request: pytest.FixtureRequest, find: Find) -> PciFunction:
    """Return each device of the lab in turn."""
    return find(request.param)


@pytest.fixture(params=["iommufd", "vfio_type1v2_iommu"])
def second_mode(request: pytest.FixtureRequest) -> str:
    """Return a mode that uses the cdev and one that uses the group."""
    return _built_in(request.param)


@pytest.fixture
def iommufd() -> str:
    """Return the mode that uses the cdev."""
    return _built_in("iommufd")


def _built_in(mode: str) -> str:
    if mode.startswith("iommufd") and not device_nodes.IOMMUFD.exists():
        pytest.skip("this kernel was built without IOMMUFD: python -m pyvmm lab test --kernel lab")
    return mode


@pytest.fixture
def nvme(find: Find) -> Iterator[VfioDevice]:
    """Yield the NVMe disk, opened."""
    with open_device(find("nvme").bdf) as device:
        yield device


@pytest.fixture
def bochs(find: Find) -> Iterator[VfioDevice]:
    """Yield the bochs display, opened. Its BAR0 is memory."""
    with open_device(find("bochs").bdf) as device:
        yield device


@pytest.fixture(autouse=True)
def descriptors_are_closed() -> Iterator[None]:
    """Check that a test closes its vfio, iommufd and eventfd descriptors."""
    before = open_fds()
    yield
    leaked = open_fds() - before
    assert not [path for path in leaked if "vfio" in path or "iommu" in path or "event" in path]


@pytest.fixture
def grace(find: Find) -> Iterator[VfioDevice]:
    """Yield the GPU with nvgrace_gpu_vfio_pci, opened."""
    with open_device(find("grace").bdf) as device:
        yield device


@pytest.fixture
def edu_function(find: Find) -> PciFunction:
    """Return the edu device, not opened."""
    return find("edu")


@pytest.fixture
def edu(edu_function: PciFunction) -> Iterator[Edu]:
    """Yield the edu device, opened."""
    with open_device(edu_function.bdf) as device:
        yield Edu(device)


@pytest.fixture
def edu_in_mode(edu_function: PciFunction, iommu_mode: str) -> Iterator[Edu]:
    """Yield the edu device, opened in each IOMMU mode."""
    with open_device(edu_function.bdf, iommu_mode) as device:
        yield Edu(device)


@pytest.fixture
def eventfd() -> Iterator[EventFd]:
    """Yield an eventfd."""
    event = EventFd()
    yield event
    event.close()


@pytest.fixture
def driverless(find: Find) -> Iterator[PciFunction]:
    """Yield the NVMe disk without a driver and without driver_override."""
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
    """Return the NVMe disk bound to nvme, with its block device."""
    (PCI / "drivers" / "nvme" / "bind").write_text(str(driverless))
    deadline = time.monotonic() + 10
    while not list(driverless.path.glob("nvme/*/nvme*n1")):  # a kernel worker scans the namespace
        assert time.monotonic() < deadline, "nvme created no disk"
        time.sleep(0.05)
    return driverless
