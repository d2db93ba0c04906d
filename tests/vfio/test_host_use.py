# SPDX-License-Identifier: GPL-2.0-only
"""What the host uses devices for, asked of this very host."""

import os
from pathlib import Path

import pytest

from pyvmm.vfio.host_use import host_uses
from pyvmm.vfio.rebind import bind_to_vfio
from pyvmm.vfio.sysfs import PciFunction, list_functions


def on_pci(path: Path) -> PciFunction | None:
    """The PCI function that something in sysfs hangs off, the nearest one."""
    ancestors = [path.resolve(), *path.resolve().parents]
    for function in list_functions():
        if function.path.resolve() in ancestors and not function.is_bridge:
            return function
    return None


def test_the_disk_under_the_root_directory_is_the_hosts() -> None:
    number = Path("/").stat().st_dev
    disk = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not disk.exists() or not (function := on_pci(disk)):
        pytest.skip("the root directory is on no PCI disk: run it on a machine where it is")
    assert any("is mounted on /" in use for use in host_uses(function))


def test_an_interface_that_is_up_is_the_hosts() -> None:
    up = 1
    for interface in Path("/sys/class/net").iterdir():
        flags = int((interface / "flags").read_text(), 16)
        if flags & up and (function := on_pci(interface)):
            assert f"its network interface {interface.name} is up" in host_uses(function)
            return
    pytest.skip("no PCI network interface is up: run it on a machine that has one")


def test_bridges_are_the_hosts() -> None:
    bridges = [function for function in list_functions() if function.is_bridge]
    if not bridges:
        pytest.skip("this machine has no PCI bridge: python -m pyvmm lab test")
    assert all("it is a bridge, with other devices behind it" in host_uses(b) for b in bridges)


def test_the_labs_devices_are_nobodys(function: PciFunction) -> None:
    assert host_uses(function) == []


def test_a_disk_that_a_program_holds_is_the_hosts(nvme_with_its_driver: PciFunction) -> None:
    [disk] = nvme_with_its_driver.path.glob("nvme/*/nvme*n1")
    held = os.open(Path("/dev") / disk.name, os.O_RDONLY | os.O_EXCL)
    try:
        assert host_uses(nvme_with_its_driver) == [f"its disk {disk.name} is in use"]
    finally:
        os.close(held)
    assert host_uses(nvme_with_its_driver) == []
    with bind_to_vfio(nvme_with_its_driver):
        assert host_uses(nvme_with_its_driver) == []
