# SPDX-License-Identifier: GPL-2.0-only
"""The five IOMMU modes, named as in the kernel's vfio selftests, and opening a device in one."""

import errno
import os
from dataclasses import dataclass

from pyvmm.errors import LackingError, UsageError
from pyvmm.vfio import device_nodes, rebind
from pyvmm.vfio.bdf import Bdf
from pyvmm.vfio.container import CONTAINER_MODES, Container
from pyvmm.vfio.dma import IoAddressSpace
from pyvmm.vfio.ioas import Iommufd
from pyvmm.vfio.sysfs import PciFunction
from pyvmm.vfio.vfio_device import VfioDevice

AUTO = "auto"

# Best first. A cdev needs no group. type1v2 rejects an unmap of part of a mapping. type1 may unmap
# nothing or more, and reports success (vfio_dma_do_unmap()); iommufd's type1 unmaps the part, for
# which it disables large IOMMU pages (iopt_disable_large_pages()).
MODES = (
    "iommufd",
    "vfio_type1v2_iommu",
    "iommufd_compat_type1v2",
    "vfio_type1_iommu",
    "iommufd_compat_type1",
)


@dataclass(frozen=True)
class ModeAvailability:
    """An IOMMU mode for a device; `missing` is what it needs to be available, or None."""

    mode: str
    missing: str | None

    def __str__(self) -> str:
        """Return a clause: the mode and its availability."""
        return f"{self.mode}: {self.missing or 'available'}"


def open_device(
    address: str | Bdf, mode: str = AUTO, *, beside: VfioDevice | None = None
) -> VfioDevice:
    """Open a device that is bound to a vfio driver, and attach it to an IO address space.

    `rebind.bind_to_vfio` binds it. `mode` is one of `MODES`, or ``auto`` for the first available
    one. With `beside`, the device is attached to the address space of that device, in its mode;
    close it before that device.

    Raises `UsageError` (malformed or unknown address, unknown mode), `LackingError` (no IOMMU
    group, no vfio driver, group not viable, device busy, no permission, mode not available) and
    `IoctlError`.
    """
    if mode not in (AUTO, *MODES):
        raise UsageError(f"unknown IOMMU mode {mode!r}: choose one of {AUTO}, {', '.join(MODES)}")
    function = PciFunction.find(address)
    require_vfio(function)
    if beside:
        return VfioDevice(function, beside.dma.attach(function), beside.dma, owns_dma=False)
    dma = _open_space(function, mode)
    try:
        return VfioDevice(function, dma.attach(function), dma, owns_dma=True)
    except BaseException:
        dma.close()
        raise


def require_vfio(function: PciFunction) -> None:
    """Raise `LackingError` unless a vfio driver is bound and the IOMMU group is viable."""
    function.require_group()
    if not function.driver or rebind.has_host_driver(function):
        state = f"bound to {function.driver}" if function.driver else "not bound to a driver"
        raise LackingError(f"{function} is {state}; pass --bind to bind it to vfio for this run")
    rebind.require_viable_group(function)


def check_modes(function: PciFunction) -> list[ModeAvailability]:
    """Return the availability of all five modes for this device, best first."""
    return [ModeAvailability(mode, _missing(function, mode)) for mode in MODES]


def _open_space(function: PciFunction, mode: str) -> IoAddressSpace:
    if mode == AUTO:
        modes = check_modes(function)
        mode = next((each.mode for each in modes if not each.missing), "")
        if not mode:
            raise LackingError(f"no IOMMU mode works for {function}: {'; '.join(map(str, modes))}")
    return Iommufd.open() if mode not in CONTAINER_MODES else Container.open(mode)


def _missing(function: PciFunction, mode: str) -> str | None:
    try:
        if mode in CONTAINER_MODES:
            Container.open(mode).close()
            node = device_nodes.GROUPS / str(function.require_group().number)
        else:
            Iommufd.open().close()
            node = device_nodes.CDEVS / (function.cdev or "vfioN")
    except LackingError as error:
        return str(error)
    if not node.exists():
        return device_nodes.explain_open_error(node, errno.ENOENT)
    if not os.access(node, os.R_OK | os.W_OK):
        return device_nodes.explain_open_error(node, errno.EACCES)
    return None
