# SPDX-License-Identifier: GPL-2.0-only
"""Optional features of vfio device drivers (``VFIO_DEVICE_FEATURE``)."""

import ctypes
from dataclasses import dataclass

from pyvmm.ioctl import Fd, IoctlError
from pyvmm.uapi import vfio

_FEATURES = {
    "pci-vf-token": vfio.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN,
    "migration": vfio.VFIO_DEVICE_FEATURE_MIGRATION,
    "mig-device-state": vfio.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
    "low-power-entry": vfio.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
    "low-power-entry-with-wakeup": vfio.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
    "low-power-exit": vfio.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
    "dma-logging-start": vfio.VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
    "dma-logging-stop": vfio.VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,
    "dma-logging-report": vfio.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
    "mig-data-size": vfio.VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
    "bus-master": vfio.VFIO_DEVICE_FEATURE_BUS_MASTER,
    "dma-buf": vfio.VFIO_DEVICE_FEATURE_DMA_BUF,
    "mig-precopy-info-v2": vfio.VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2,
}


@dataclass(frozen=True)
class DeviceFeature:
    """A feature that the device supports; `get` and `set` are the supported operations."""

    name: str
    get: bool
    set: bool


def probe_features(device: Fd) -> list[DeviceFeature]:
    """Return the supported features (``VFIO_DEVICE_FEATURE_PROBE``). Changes nothing."""
    features = (
        DeviceFeature(
            name,
            get=_supports(device, number | vfio.VFIO_DEVICE_FEATURE_GET),
            set=_supports(device, number | vfio.VFIO_DEVICE_FEATURE_SET),
        )
        for name, number in _FEATURES.items()
    )
    return [feature for feature in features if feature.get or feature.set]


def enter_low_power(device: Fd) -> None:
    """Allow runtime suspend until `exit_low_power`: the mappings of memory BARs raise SIGBUS.

    ``VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY``. Raises `IoctlError`.
    """
    _set(device, vfio.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY)


def exit_low_power(device: Fd) -> None:
    """End `enter_low_power` (``VFIO_DEVICE_FEATURE_LOW_POWER_EXIT``). Raises `IoctlError`."""
    _set(device, vfio.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT)


def _set(device: Fd, feature: int) -> None:
    request = vfio.vfio_device_feature(flags=feature | vfio.VFIO_DEVICE_FEATURE_SET)
    request.argsz = ctypes.sizeof(request)
    device.ioctl(vfio.VFIO_DEVICE_FEATURE, request)


def _supports(device: Fd, flags: int) -> bool:
    request = vfio.vfio_device_feature(flags=flags | vfio.VFIO_DEVICE_FEATURE_PROBE)
    request.argsz = ctypes.sizeof(request)
    try:
        device.ioctl(vfio.VFIO_DEVICE_FEATURE, request)
    except IoctlError:
        # ENOTTY: unknown feature. EINVAL: wrong direction. Others: not on this device.
        return False
    return True
