# SPDX-License-Identifier: GPL-2.0-only
"""The fixtures; `pyvmm.testing` shows how they hang together.

What each is made of is imported when a test asks for it: pytest loads this module for everyone.
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
    """``/dev/kvm``."""
    from pyvmm.errors import LackingError
    from pyvmm.kvm import System

    try:
        system = System.open()
    except LackingError as error:
        pytest.skip(f"{error}; tests: pytest --lab")
    with system:
        yield system


@pytest.fixture
def vm(kvm: "System") -> "Iterator[Vm]":
    """An empty virtual machine."""
    with kvm.create_vm() as vm:
        yield vm


@pytest.fixture
def vcpu(vm: "Vm") -> "Vcpu":
    """A vCPU that has not been set up."""
    return vm.create_vcpu()


@pytest.fixture
def ram(vm: "Vm") -> "Iterator[Mapping]":
    """4 MiB of zeroed memory, a memslot at GPA 0x4000_0000; guests use the first 3 of them."""
    from pyvmm.machine import MINIMUM_RAM, RAM_BASE
    from pyvmm.memory import Mapping

    with Mapping.anonymous(MINIMUM_RAM, align=2 << 20) as memory:
        vm.memslots.add(RAM_BASE, memory)
        yield memory


@pytest.fixture
def guest(kvm: "System", vm: "Vm", vcpu: "Vcpu", ram: "Mapping") -> "Guest":
    """Call it with assembly text; what comes back has the guest's exits."""
    from pyvmm.testing.guest import Guest

    return Guest(kvm, vm, vcpu, ram)


@pytest.fixture(scope="session")
def caps(pytestconfig: pytest.Config) -> "CapsReport":
    """What this kernel and this CPU offer, and why the rest is missing."""
    from pyvmm.errors import LackingError
    from pyvmm.testing.needs import capabilities

    try:
        return capabilities(pytestconfig)
    except LackingError as error:
        pytest.skip(f"{error}; tests: pytest --lab")


@pytest.fixture
def iommu_mode(request: pytest.FixtureRequest) -> str:
    """Each of the five IOMMU modes, by its name in the kernel's selftests."""
    from pyvmm.vfio import device_nodes

    mode: str = request.param
    node = device_nodes.IOMMUFD if mode.startswith("iommufd") else device_nodes.CONTAINER
    if not node.exists():
        pytest.skip(f"this kernel has no {mode}: there is no {node}; pytest --lab --lab-kernel lab")
    return mode


@pytest.fixture
def vfio_device(request: pytest.FixtureRequest) -> "Iterator[VfioDevice]":
    """The device of the test's `needs_device`, else the first that vfio has, opened.

    In the test's `iommu_mode` if it has one, else in the best that is there.
    """
    from pyvmm.testing import needs
    from pyvmm.vfio.iommu_modes import AUTO, open_device

    marker = request.node.get_closest_marker("needs_device")
    found = next(needs.devices(marker.args[0]) if marker else needs.assigned(), None)
    if found is None:
        pytest.skip("vfio has no device here: pytest --lab --lab-device bochs")
    asked = "iommu_mode" in request.fixturenames
    with open_device(found.bdf, request.getfixturevalue("iommu_mode") if asked else AUTO) as device:
        yield device
