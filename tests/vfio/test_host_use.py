# SPDX-License-Identifier: GPL-2.0-only
"""Reasons why the host needs a device, on this host and in the lab."""

import os
from pathlib import Path

import pytest

from pyvmm.vfio.host_use import host_uses
from pyvmm.vfio.rebind import bind_to_vfio
from pyvmm.vfio.sysfs import PciFunction, list_functions


def on_pci(path: Path) -> PciFunction | None:
    """Return the PCI function that the sysfs device `path` belongs to."""
    ancestors = [path.resolve(), *path.resolve().parents]
    for function in list_functions():
        if function.path.resolve() in ancestors and not function.is_bridge:
            return function
    return None


def test_disk_with_the_root_file_system() -> None:
    number = Path("/").stat().st_dev
    disk = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not disk.exists() or not (function := on_pci(disk)):
        pytest.skip("the root file system is not on a PCI disk: run it on a machine where it is")
    assert any("is mounted on /" in use for use in host_uses(function))


def test_network_interface_that_is_up() -> None:
    up = 1
    for interface in Path("/sys/class/net").iterdir():
        flags = int((interface / "flags").read_text(), 16)
        if flags & up and (function := on_pci(interface)):
            assert f"network interface {interface.name} is up" in host_uses(function)
            return
    pytest.skip("no PCI network interface is up: run it on a machine that has one")


def test_bridges() -> None:
    bridges = [function for function in list_functions() if function.is_bridge]
    if not bridges:
        pytest.skip("this machine has no PCI bridge: python -m pyvmm lab test")
    assert all("it is a bridge to other devices" in host_uses(b) for b in bridges)


def test_lab_devices_are_unused(function: PciFunction) -> None:
    assert host_uses(function) == []


def test_disk_that_is_open_exclusively(nvme_with_its_driver: PciFunction) -> None:
    [disk] = nvme_with_its_driver.path.glob("nvme/*/nvme*n1")
    exclusive = os.open(Path("/dev") / disk.name, os.O_RDONLY | os.O_EXCL)
    try:
        assert host_uses(nvme_with_its_driver) == [f"disk {disk.name} is in use"]
    finally:
        os.close(exclusive)
    assert host_uses(nvme_with_its_driver) == []
    with bind_to_vfio(nvme_with_its_driver):
        assert host_uses(nvme_with_its_driver) == []
