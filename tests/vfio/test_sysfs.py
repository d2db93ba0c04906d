# SPDX-License-Identifier: GPL-2.0-only
"""What sysfs says, asked of whatever machine this is, and of the lab's devices."""

import pytest

from pyvmm.errors import LackingError, UsageError
from pyvmm.vfio.bdf import Bdf
from pyvmm.vfio.sysfs import PciFunction, list_functions


def any_function() -> PciFunction:
    for function in list_functions():
        return function
    pytest.skip("this machine has no PCI: python -m pyvmm lab test --device edu")


def test_every_function_can_be_found_and_described() -> None:
    for function in list_functions():
        assert PciFunction.find(str(function)) == function
        assert 0 < function.vendor <= 0xFFFF
        assert f"v{function.vendor:08X}d{function.device:08X}" in function.modalias
        assert function.driver is None or (function.path / "driver").exists()


def test_a_function_that_does_not_exist() -> None:
    with pytest.raises(UsageError, match=r"there is no PCI device ffff:ff:1f\.7"):
        PciFunction.find("ffff:ff:1f.7")


def test_a_function_that_has_gone_meanwhile() -> None:
    with pytest.raises(LackingError, match=r"ffff:ff:1f\.7 has gone"):
        PciFunction(Bdf(0xFFFF, 0xFF, 0x1F, 7)).vendor.bit_count()


def test_without_an_iommu_group_the_way_to_one_is_told() -> None:
    function = any_function()
    if function.group:
        pytest.skip("this machine has an IOMMU: run it where there is none")
    with pytest.raises(LackingError, match="intel_iommu=on"):
        function.require_group()


def test_the_labs_devices(function: PciFunction) -> None:
    group = function.require_group()
    assert group.members() == [function]
    assert function.cdev
    assert not function.is_bridge
    assert not function.is_boot_display
