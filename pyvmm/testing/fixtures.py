# SPDX-License-Identifier: GPL-2.0-only
"""The fixtures; see `pyvmm.testing` for their dependencies.

Fixtures import what they need when a test requests them: pytest loads this module in every session.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyvmm.caps import CapsReport
    from pyvmm.kvm import System, Vcpu, Vm
    from pyvmm.memory import Mapping
    from pyvmm.testing.guest import Guest
    from pyvmm.vfio.vfio_device import VfioDevice


@pytest.fixture
def kvm() -> "Iterator[System]":
    """Yield the open ``/dev/kvm``."""
    from pyvmm.errors import LackingError
    from pyvmm.kvm import System

    try:
        system = System.open()
    except LackingError as error:
        pytest.skip(f"{error}; to run the test in the emulated arm64 host: pytest --lab")
    with system:
        yield system


@pytest.fixture
def vm(kvm: "System") -> "Iterator[Vm]":
    """Yield an empty virtual machine."""
    with kvm.create_vm() as vm:
        yield vm


@pytest.fixture
def vcpu(vm: "Vm") -> "Vcpu":
    """Return a vCPU in its initial state."""
    return vm.create_vcpu()


@pytest.fixture
def ram(vm: "Vm") -> "Iterator[Mapping]":
    """Yield 4 MiB of zeroed memory, a memslot at GPA 0x4000_0000; guests use the first 3 MiB."""
    from pyvmm.machine import MINIMUM_RAM, RAM_BASE
    from pyvmm.memory import Mapping

    with Mapping.anonymous(MINIMUM_RAM, align=2 << 20) as memory:
        vm.memslots.add(RAM_BASE, memory)
        yield memory


@pytest.fixture
def guest(kvm: "System", vm: "Vm", vcpu: "Vcpu", ram: "Mapping") -> "Guest":
    """Return a function that takes assembly text and returns the guest's exits."""
    from pyvmm.testing.guest import Guest

    return Guest(kvm, vm, vcpu, ram)


@pytest.fixture(scope="session")
def caps(pytestconfig: pytest.Config) -> "CapsReport":
    """Return the capabilities and features of this kernel and CPU, and why others are missing."""
    from pyvmm.errors import LackingError
    from pyvmm.testing.needs import caps_report

    try:
        return caps_report(pytestconfig)
    except LackingError as error:
        pytest.skip(f"{error}; to run the test in the emulated arm64 host: pytest --lab")


@pytest.fixture
def iommu_mode(request: pytest.FixtureRequest) -> str:
    """Return each of the five IOMMU modes, by its name in the kernel's selftests."""
    from pyvmm.vfio import device_nodes

    mode: str = request.param
    node = device_nodes.IOMMUFD if mode.startswith("iommufd") else device_nodes.CONTAINER
    if not node.exists():
        pytest.skip(f"{mode} needs {node}, which does not exist: pytest --lab --lab-kernel lab")
    return mode


@pytest.fixture
def vfio_device(request: pytest.FixtureRequest) -> "Iterator[VfioDevice]":
    """Yield the open device of the test's `needs_device`, by default the first vfio device.

    The mode is that of the fixture `iommu_mode` if the test requests it, otherwise the best one.
    """
    from pyvmm.testing import needs
    from pyvmm.vfio.iommu_modes import AUTO, open_device

    marker = request.node.get_closest_marker("needs_device")
    found = next(needs.find_devices(marker.args[0]) if marker else needs.vfio_functions(), None)
    if found is None:
        pytest.skip("no device is bound to a vfio driver: pytest --lab --lab-device bochs")
    has_mode = "iommu_mode" in request.fixturenames
    with open_device(
        found.bdf, request.getfixturevalue("iommu_mode") if has_mode else AUTO
    ) as device:
        yield device
