# SPDX-License-Identifier: GPL-2.0-only
"""Opening devices in the five modes, and the error for each condition that prevents it."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pyvmm.errors import LackingError, PyvmmError, Status, UsageError
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.vfio import device_nodes
from pyvmm.vfio.iommu_modes import MODES, check_modes, open_device
from pyvmm.vfio.rebind import bind_to_vfio
from pyvmm.vfio.sysfs import PciFunction, list_functions
from tests.process import as_nobody


def map_as_nobody(function: PciFunction, mode: str, limit: int, size: int) -> str:
    """Open a device and map `size` bytes as nobody with RLIMIT_MEMLOCK `limit`.

    Returns "mapped", or the error's status and text.
    """

    def map_memory() -> str:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
        try:
            with open_device(function.bdf, mode) as device, Mapping.anonymous(size) as memory:
                device.dma.map(0x10000000, memory)
        except PyvmmError as error:
            return f"{error.status} {error}"
        return "mapped"

    return as_nobody(map_memory)


def test_every_device_opens_in_every_mode(function: PciFunction, iommu_mode: str) -> None:
    driver = function.driver
    with open_device(function.bdf, iommu_mode) as device:
        assert device.dma.mode == iommu_mode
        assert device.config.read(0, 2) == function.vendor
        assert (device.kvm_file is device.fd) == (iommu_mode == "iommufd")
    assert function.driver == driver


def test_auto_selects_the_first_available_mode(function: PciFunction) -> None:
    available = [each.mode for each in check_modes(function) if not each.missing]
    assert available == [mode for mode in MODES if built_in(mode)]
    with open_device(function.bdf) as device:
        assert device.dma.mode == available[0]


def test_missing_iommufd_is_named(edu_function: PciFunction) -> None:
    if device_nodes.IOMMUFD.exists():
        pytest.skip("this kernel has every mode: python -m pyvmm lab test --kernel debian:7.2")
    missing = "/dev/iommu does not exist: load module iommufd (CONFIG_IOMMUFD)"
    assert [str(each) for each in check_modes(edu_function) if each.missing] == [
        f"{mode}: {missing}" for mode in MODES if mode.startswith("iommufd")
    ]
    with pytest.raises(LackingError, match="/dev/iommu does not exist"):
        open_device(edu_function.bdf, "iommufd")


def test_two_devices_share_an_address_space(
    find: Callable[[str], PciFunction], iommu_mode: str
) -> None:
    edu, bochs = find("edu"), find("bochs")
    with open_device(edu.bdf, iommu_mode) as first, open_device(bochs.bdf, beside=first) as second:
        assert second.dma is first.dma
        assert second.config.read(2, 2) == bochs.device


@pytest.mark.parametrize(
    ("address", "mode", "why"),
    [
        ("0000:01:00", "auto", "is not a PCI address"),
        ("ffff:ff:1f.7", "auto", "does not exist"),
        (
            "0000:00:00.0",
            "type1",
            "unknown IOMMU mode 'type1': choose one of auto, iommufd, vfio_type1v2",
        ),
    ],
)
def test_wrong_usage(address: str, mode: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        open_device(address, mode)


def test_no_iommu() -> None:
    for function in list_functions():
        if not function.group:
            with pytest.raises(LackingError, match="has no IOMMU group"):
                open_device(function.bdf)
            return
    pytest.skip("every PCI function of this machine has an IOMMU: run it where one has none")


def test_device_without_a_driver(driverless: PciFunction) -> None:
    with pytest.raises(LackingError, match="is not bound to a driver; pass --bind"):
        open_device(driverless.bdf)


def test_device_with_its_host_driver(nvme_with_its_driver: PciFunction) -> None:
    with pytest.raises(LackingError, match="is bound to nvme; pass --bind"):
        open_device(nvme_with_its_driver.bdf)


def test_group_with_a_host_driver() -> None:
    for function in list_functions():
        members = function.group.members() if function.group else []
        bound = [m for m in members if m != function and m.driver == "nvme"]
        if bound and not function.driver:
            with pytest.raises(LackingError, match=rf"{bound[0]} \(nvme\)"), ExitStack() as stack:
                stack.enter_context(bind_to_vfio(function))
            return
    pytest.skip(
        "no IOMMU group here has both a device with a driver and one without: "
        "python -m pyvmm lab test "
        "--device-arg pcie-root-port,id=p9,chassis=9,slot=9,addr=9 "
        "--device-arg edu,bus=p9,addr=0.0,multifunction=on "
        "--device-arg nvme,serial=beside,bus=p9,addr=0.1"
    )


def built_in(mode: str) -> bool:
    return device_nodes.IOMMUFD.exists() or not mode.startswith("iommufd")


@contextmanager
def child_process(function: Callable[[], object]) -> Iterator[int]:
    """Call `function` in a child process, which keeps the result; yield its PID."""
    (ready, signal), (wait, end) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(end)
        result = function()
        os.write(signal, b"!")
        os.read(wait, 1)
        os._exit(0 if result else 1)
    os.read(ready, 1)
    try:
        yield child
    finally:
        os.close(end)
        os.waitpid(child, 0)
        for fd in (ready, signal, wait):
            os.close(fd)


def test_busy_device_names_the_process(
    edu_function: PciFunction, iommu_mode: str, second_mode: str
) -> None:
    with child_process(lambda: open_device(edu_function.bdf, iommu_mode)) as pid:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        with pytest.raises(LackingError, match="is busy") as caught:
            open_device(edu_function.bdf, second_mode)
    assert str(caught.value).endswith(f" is busy: open in {name} ({pid}); end that process first")
    with open_device(edu_function.bdf, second_mode):
        pass


def test_no_permission(edu_function: PciFunction, iommu_mode: str) -> None:
    result = map_as_nobody(edu_function, iommu_mode, PAGE_SIZE, PAGE_SIZE)
    assert result.startswith(f"{Status.LACKING} permission denied on /dev/")
    assert result.endswith(": check its owner and mode, or run as root")


def test_auto_without_permission(edu_function: PciFunction) -> None:
    result = map_as_nobody(edu_function, "auto", PAGE_SIZE, PAGE_SIZE)
    assert result.startswith(f"{Status.LACKING} no IOMMU mode works for {edu_function}: iommufd: ")
    for mode in MODES:
        error = "permission denied on /dev/" if built_in(mode) else "/dev/iommu does not exist"
        assert f"{mode}: {error}" in result


@pytest.fixture
def edu_for_all_users(edu_function: PciFunction) -> Iterator[PciFunction]:
    """Yield the edu device, with its device nodes accessible to every user."""
    group = edu_function.require_group().number
    paths = [device_nodes.CONTAINER, device_nodes.IOMMUFD, device_nodes.GROUPS / f"{group}"]
    paths.append(device_nodes.CDEVS / f"{edu_function.cdev}")
    paths = [path for path in paths if path.exists()]
    before = [path.stat().st_mode for path in paths]
    for path in paths:
        path.chmod(0o666)
    yield edu_function
    for path, mode in zip(paths, before, strict=True):
        path.chmod(mode)


def test_user_with_permission_needs_no_privilege(
    edu_for_all_users: PciFunction, iommu_mode: str
) -> None:
    assert map_as_nobody(edu_for_all_users, iommu_mode, 1 << 20, 1 << 19) == "mapped"


def test_memlock_limit_is_named(edu_for_all_users: PciFunction, iommu_mode: str) -> None:
    result = map_as_nobody(edu_for_all_users, iommu_mode, 1 << 16, 1 << 20)
    assert result.startswith(f"{Status.LACKING} ")
    assert "0x100000 bytes exceeds RLIMIT_MEMLOCK, 0x10000 bytes: raise ulimit -l" in result
