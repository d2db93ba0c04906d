# SPDX-License-Identifier: GPL-2.0-only
"""The lab's devices: regions, BAR mappings, reset and hot unplug."""

import errno
import threading

import pytest

from pyvmm.errors import LackingError, UsageError
from pyvmm.ioctl import IoctlError
from pyvmm.kvm import Vm
from pyvmm.kvm.vfio_files import VfioFiles
from pyvmm.memory import PAGE_SIZE
from pyvmm.vfio.bars import map_bar
from pyvmm.vfio.iommu_modes import open_device
from pyvmm.vfio.region_caps import Area, SparseMmap
from pyvmm.vfio.regions import Region, RegionError
from pyvmm.vfio.sysfs import PCI, PciFunction
from pyvmm.vfio.vfio_device import VfioDevice
from tests.vfio.edu import Edu
from tests.vfio.eventfd import EventFd

MIB = 1 << 20

BARS = {
    "0x1111 vfio-pci": {"BAR0": 16 * MIB, "BAR2": 4096},
    "0x1111 nvgrace_gpu_vfio_pci": {"BAR0": 16 * MIB, "BAR2": 1024 * MIB, "BAR4": 512 * MIB},
    "0x11e8 vfio-pci": {"BAR0": 1 * MIB},
    "0x0010 vfio-pci": {"BAR0": 16384},
    "0x5845 vfio-pci": {"BAR0": 16384},
}


def test_bars_have_the_sizes_of_the_device(function: PciFunction, iommu_mode: str) -> None:
    with open_device(function.bdf, iommu_mode) as device:
        bars = {n: r.size for n, r in device.regions.items() if n.startswith("BAR")}
        assert bars == BARS[f"{function.device:#06x} {function.driver}"]
        express = (function.path / "max_link_speed").exists()
        assert device.regions["CONFIG"].size == (4096 if express else 256)


def test_mapped_bar_and_region_read_the_same_bytes(bochs: VfioDevice) -> None:
    bar = bochs.regions["BAR0"]
    with map_bar(bar, bochs.split(bar)) as mapped:
        assert mapped.areas == (Area(0, 16 * MIB),)
        assert mapped.memory.hva % (2 * MIB) == 0
        last = bar.size - 8
        for offset in (0, PAGE_SIZE, last):
            bar.write(offset, b"\x11\x22\x33\x44")
            assert mapped.memory.read(offset, 4) == b"\x11\x22\x33\x44"
        mapped.memory.write(last, b"\xaa\xbb")
        assert bar.read(last, 2) == b"\xaa\xbb"


def test_edu_registers_through_the_mapping(edu: Edu) -> None:
    assert edu.read(edu.IDENTITY) & 0xFF == 0xED
    with map_bar(edu.bar, edu.device.split(edu.bar)) as mapped:
        assert mapped.load(edu.IDENTITY, 4) == edu.read(edu.IDENTITY)
        mapped.store(edu.LIVENESS, 4, 0x12345678)
        assert mapped.load(edu.LIVENESS, 4) == 0x12345678 ^ 0xFFFFFFFF


def test_nvme_msix_table_is_mappable_and_can_be_trapped(nvme: VfioDevice) -> None:
    assert nvme.msix
    bar = nvme.regions[f"BAR{nvme.msix.table_bar}"]
    assert nvme.msix.vectors == nvme.irqs["MSI-X"].count
    # VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, since v4.16: the VMM decides.
    assert bar.msix_mappable
    assert nvme.split(bar).mapped == (Area(0, bar.size),)
    [trapped] = nvme.split(bar, trap=[nvme.msix.table]).emulated
    assert trapped.area.offset == nvme.msix.table.offset // PAGE_SIZE * PAGE_SIZE


def test_grace_memory_has_one_sparse_area(grace: VfioDevice) -> None:
    usemem, resmem = grace.regions["BAR4"], grace.regions["BAR2"]
    assert usemem.capabilities == (SparseMmap((Area(0, 512 * MIB),)),)
    assert resmem.capabilities == (SparseMmap((Area(0, 1024 * MIB),)),)
    for region, alignment in ((usemem, 2 * MIB), (resmem, 1024 * MIB)):
        with map_bar(region, grace.split(region)) as mapped:
            assert mapped.memory.hva % alignment == 0
            mapped.memory.write(region.size - 8, b"pyvmm")
            assert mapped.memory.read(region.size - 8, 5) == b"pyvmm"


@pytest.mark.parametrize(
    ("offset", "size", "number"),
    [
        pytest.param(16 * MIB, 4, errno.EINVAL, id="at the end"),
        pytest.param(1 << 39, 4, errno.EINVAL, id="far beyond"),
        pytest.param(16 * MIB - 2, 4, errno.EIO, id="across the end"),
    ],
)
def test_read_outside_of_a_region(bochs: VfioDevice, offset: int, size: int, number: int) -> None:
    bar = bochs.regions["BAR0"]
    with pytest.raises(RegionError, match="BAR0") as caught:
        bar.read(offset, size)
    assert caught.value.errno == number


def test_bar_access_fails_while_memory_space_is_disabled(bochs: VfioDevice) -> None:
    bar: Region = bochs.regions["BAR0"]
    assert bochs.config.memory_enabled
    bochs.config.enable_memory(False)
    for access in (lambda: bar.read(0, 4), lambda: bar.write(0, bytes(4))):
        with pytest.raises(RegionError, match="Input/output error"):
            access()
    bochs.config.enable_memory()
    assert len(bar.read(0, 4)) == 4


def test_reset_clears_registers(nvme: VfioDevice) -> None:
    interrupt_mask = 0x0C  # INTMS: reads as the current mask
    bar = nvme.regions["BAR0"]
    bar.write(interrupt_mask, b"\x01\x00\x00\x00")
    assert bar.read(interrupt_mask, 4) == b"\x01\x00\x00\x00"
    nvme.reset()
    assert bar.read(interrupt_mask, 4) == bytes(4)


def test_kvm_device_vfio_file_add_and_del(vm: Vm, edu_in_mode: Edu) -> None:
    device, files = edu_in_mode.device, VfioFiles(vm)
    files.add(device.kvm_file)
    files.remove(device.kvm_file)
    with pytest.raises(IoctlError, match="ENOENT"):
        files.remove(device.kvm_file)


def test_removed_device_stays_usable_until_it_is_closed(
    edu_function: PciFunction, eventfd: EventFd
) -> None:
    driver = edu_function.driver
    assert driver
    port = edu_function.path.resolve().parent
    remover = threading.Thread(target=(edu_function.path / "remove").write_text, args=("1",))
    with open_device(edu_function.bdf) as device:
        device.irqs["REQ"].enable([eventfd.number])
        remover.start()
        assert eventfd.count(), "the kernel did not ask for the device back"
        assert Edu(device).read(Edu.IDENTITY) & 0xFF == 0xED
        with pytest.raises(LackingError, match="is not bound to a driver"):
            open_device(edu_function.bdf)
    remover.join(60)
    with pytest.raises(UsageError, match="does not exist"):
        open_device(edu_function.bdf)
    (port / "rescan").write_text("1")
    (edu_function.path / "driver_override").write_text(driver)
    (PCI / "drivers_probe").write_text(str(edu_function))
    assert edu_function.driver == driver
