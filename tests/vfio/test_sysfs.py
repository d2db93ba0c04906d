# SPDX-License-Identifier: GPL-2.0-only
"""PCI functions in sysfs, on this machine and in the lab."""

import pytest

from pyvmm.errors import LackingError, UsageError
from pyvmm.vfio.bdf import Bdf
from pyvmm.vfio.sysfs import PciFunction, list_functions


def any_function() -> PciFunction:
    for function in list_functions():
        return function
    pytest.skip("this machine has no PCI: python -m pyvmm lab test --device edu")


def test_every_function_is_found_by_its_address() -> None:
    for function in list_functions():
        assert PciFunction.find(str(function)) == function
        assert 0 < function.vendor <= 0xFFFF
        assert f"v{function.vendor:08X}d{function.device:08X}" in function.modalias
        assert function.driver is None or (function.path / "driver").exists()


def test_function_that_does_not_exist() -> None:
    with pytest.raises(UsageError, match=r"ffff:ff:1f\.7 does not exist"):
        PciFunction.find("ffff:ff:1f.7")


def test_removed_function() -> None:
    with pytest.raises(LackingError, match=r"ffff:ff:1f\.7 was removed"):
        PciFunction(Bdf(0xFFFF, 0xFF, 0x1F, 7)).vendor.bit_count()


def test_missing_iommu_group_names_the_remedy() -> None:
    function = any_function()
    if function.group:
        pytest.skip("this machine has an IOMMU: run it where there is none")
    with pytest.raises(LackingError, match="intel_iommu=on"):
        function.require_group()


def test_lab_devices(function: PciFunction) -> None:
    group = function.require_group()
    assert group.members() == [function]
    assert function.cdev
    assert not function.is_bridge
    assert not function.is_boot_display
