# SPDX-License-Identifier: GPL-2.0-only
"""The errors of ``VFIO_DEVICE_FEATURE_DMA_BUF``; test_dma maps its dma-bufs."""

import errno

import pytest

from pyvmm.ioctl import IoctlError
from pyvmm.memory import PAGE_SIZE
from pyvmm.vfio.dmabuf import export_dmabuf
from pyvmm.vfio.iommu_modes import open_device
from pyvmm.vfio.rebind import bind_to_vfio
from pyvmm.vfio.sysfs import PCI
from pyvmm.vfio.vfio_device import VfioDevice
from tests.devices import Find

# It sets no vfio_pci_core_device.pci_ops (drivers/vfio/pci/virtio/main.c, 7.3).
DRIVER_WITHOUT_DMABUFS = "virtio_vfio_pci"


def errno_of_export(device: VfioDevice, region: str, at: int, size: int) -> int | None:
    with pytest.raises(IoctlError) as caught:
        export_dmabuf(device.regions[region], at, size)
    if caught.value.errno == errno.ENOTTY:
        pytest.skip("this kernel exports no dma-bufs of BARs: pytest --lab --lab-kernel lab")
    return caught.value.errno


@pytest.mark.parametrize(
    ("region", "at", "size", "expected"),
    [
        ("BAR0", 0, PAGE_SIZE // 2, errno.EINVAL),
        ("BAR0", PAGE_SIZE // 2, PAGE_SIZE, errno.EINVAL),
        ("CONFIG", 0, PAGE_SIZE, errno.ENODEV),
    ],
)
def test_invalid_part(bochs: VfioDevice, region: str, at: int, size: int, expected: int) -> None:
    assert errno_of_export(bochs, region, at, size) == expected


def test_driver_without_dmabufs(find: Find) -> None:
    if not (PCI / "drivers" / DRIVER_WITHOUT_DMABUFS).exists():
        pytest.skip("this kernel was built without VIRTIO_VFIO_PCI: pytest --lab --lab-kernel lab")
    function = find("bochs")
    own = function.driver
    with bind_to_vfio(function, DRIVER_WITHOUT_DMABUFS), open_device(function.bdf) as device:
        assert errno_of_export(device, "BAR0", 0, PAGE_SIZE) == errno.EOPNOTSUPP
    assert function.driver == own
