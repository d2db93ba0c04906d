# SPDX-License-Identifier: GPL-2.0-only
"""Opening devices: the five modes, and one line for each thing that stands in the way."""

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

NOBODY = 65534


def unprivileged(function: PciFunction, mode: str, limit: int, size: int) -> str:
    """Open a device and map `size` bytes as nobody, who may lock `limit` bytes: what came of it."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            with open_device(function.bdf, mode) as device, Mapping.anonymous(size) as memory:
                device.dma.map(0x10000000, memory)
                said = "mapped"
        except PyvmmError as error:
            said = f"{error.status} {error}"
        finally:
            os.write(theirs, said.encode())
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_every_device_opens_in_every_mode(function: PciFunction, iommu_mode: str) -> None:
    driver = function.driver
    with open_device(function.bdf, iommu_mode) as device:
        assert device.dma.mode == iommu_mode
        assert device.config.read(0, 2) == function.vendor
        assert (device.kvm_file is device.fd) == (iommu_mode == "iommufd")
    assert function.driver == driver


def test_auto_takes_the_best_that_is_there(function: PciFunction) -> None:
    there = [offer.mode for offer in check_modes(function) if not offer.lacks]
    assert there == [mode for mode in MODES if built_in(mode)]
    with open_device(function.bdf) as device:
        assert device.dma.mode == there[0]


def test_what_a_kernel_lacks_is_named(edu_function: PciFunction) -> None:
    if device_nodes.IOMMUFD.exists():
        pytest.skip("this kernel has every mode: python -m pyvmm lab test --kernel debian:7.2")
    lacks = "there is no /dev/iommu: load the module iommufd (CONFIG_IOMMUFD)"
    assert [str(o) for o in check_modes(edu_function) if o.lacks] == [
        f"{mode}: {lacks}" for mode in MODES if mode.startswith("iommufd")
    ]
    with pytest.raises(LackingError, match="there is no /dev/iommu"):
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
        ("ffff:ff:1f.7", "auto", "there is no PCI device"),
        (
            "0000:00:00.0",
            "type1",
            "no IOMMU mode 'type1': it is one of auto, iommufd, vfio_type1v2",
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
    pytest.skip("every function here has an IOMMU: run it where one has none")


def test_a_device_that_no_driver_holds(driverless: PciFunction) -> None:
    with pytest.raises(LackingError, match="no driver holds it: lend it to vfio with --bind"):
        open_device(driverless.bdf)


def test_a_device_that_the_host_drives(nvme_with_its_driver: PciFunction) -> None:
    with pytest.raises(LackingError, match="nvme holds it: lend it to vfio with --bind"):
        open_device(nvme_with_its_driver.bdf)


def test_a_group_with_other_drivers() -> None:
    for function in list_functions():
        members = function.group.members() if function.group else []
        held = [m for m in members if m != function and m.driver == "nvme"]
        if held and not function.driver:
            with pytest.raises(LackingError, match=rf"{held[0]} \(nvme\)"), ExitStack() as stack:
                stack.enter_context(bind_to_vfio(function))
            return
    pytest.skip(
        "no group here holds a device with a driver and one without: python -m pyvmm lab test "
        "--device-arg pcie-root-port,id=p9,chassis=9,slot=9,addr=9 "
        "--device-arg edu,bus=p9,addr=0.0,multifunction=on "
        "--device-arg nvme,serial=beside,bus=p9,addr=0.1"
    )


def built_in(mode: str) -> bool:
    return device_nodes.IOMMUFD.exists() or not mode.startswith("iommufd")


@contextmanager
def another(holds: Callable[[], object]) -> Iterator[int]:
    """A process that calls `holds` and waits; its PID, once it has."""
    (ready, tell), (wait, end) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(end)
        kept = holds()
        os.write(tell, b"!")
        os.read(wait, 1)
        os._exit(0 if kept else 1)
    os.read(ready, 1)
    try:
        yield child
    finally:
        os.close(end)
        os.waitpid(child, 0)
        for fd in (ready, tell, wait):
            os.close(fd)


def test_a_busy_device_names_who_has_it(
    edu_function: PciFunction, iommu_mode: str, second_mode: str
) -> None:
    with another(lambda: open_device(edu_function.bdf, iommu_mode)) as pid:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        with pytest.raises(LackingError, match="is busy") as caught:
            open_device(edu_function.bdf, second_mode)
    assert str(caught.value).endswith(f" is busy: {name} ({pid}) has it open: end that first")
    with open_device(edu_function.bdf, second_mode):
        pass


def test_no_permission(edu_function: PciFunction, iommu_mode: str) -> None:
    said = unprivileged(edu_function, iommu_mode, resource.RLIM_INFINITY, PAGE_SIZE)
    assert said.startswith(f"{Status.LACKING} no permission on /dev/")
    assert said.endswith("run as root, or let your user own it (a udev rule)")


def test_nothing_to_choose_from_without_permission(edu_function: PciFunction) -> None:
    said = unprivileged(edu_function, "auto", resource.RLIM_INFINITY, PAGE_SIZE)
    assert said.startswith(f"{Status.LACKING} no IOMMU mode works for {edu_function}: iommufd: ")
    for mode in MODES:
        obstacle = "no permission on" if built_in(mode) else "there is no"
        assert f"{mode}: {obstacle} /dev/" in said


@pytest.fixture
def for_all(edu_function: PciFunction) -> Iterator[PciFunction]:
    """The teaching device, with its nodes open to every user of the emulated host."""
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


def test_a_user_with_permission_needs_no_privilege(for_all: PciFunction, iommu_mode: str) -> None:
    assert unprivileged(for_all, iommu_mode, 1 << 20, 1 << 19) == "mapped"


def test_a_memlock_limit_is_named(for_all: PciFunction, iommu_mode: str) -> None:
    said = unprivileged(for_all, iommu_mode, 1 << 16, 1 << 20)
    assert said.startswith(f"{Status.LACKING} ")
    assert "0x100000 bytes goes beyond the limit of 0x10000 locked bytes: raise ulimit -l" in said
