# SPDX-License-Identifier: GPL-2.0-only
"""Opening a device through one of the five IOMMU modes, which the kernel's selftests name."""

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

# Best first: a cdev needs no group; v2 unmaps what was mapped and nothing else; type1 keeps to
# small pages.
MODES = (
    "iommufd",
    "vfio_type1v2_iommu",
    "iommufd_compat_type1v2",
    "vfio_type1_iommu",
    "iommufd_compat_type1",
)


@dataclass(frozen=True)
class ModeAvailability:
    """Whether a mode is there for a device, and what it lacks where it is not."""

    mode: str
    lacks: str | None

    def __str__(self) -> str:
        return f"{self.mode}: {self.lacks or 'available'}"


def open_device(
    address: str | Bdf, mode: str = AUTO, *, beside: VfioDevice | None = None
) -> VfioDevice:
    """Open a device that a vfio driver holds (see `rebind.bind_to_vfio`), in an IO address space.

    `mode` is one of `MODES`, or ``auto`` for the best that is there. With `beside`, the device
    joins the address space of another, in the other's mode, and must be closed before it.

    Raises `UsageError` (malformed or unknown address, unknown mode), `LackingError` (no IOMMU
    group, no vfio driver, the group is not viable, the device is busy, no permission, the mode is
    missing) and `IoctlError`.
    """
    if mode not in (AUTO, *MODES):
        raise UsageError(
            f"there is no IOMMU mode {mode!r}: it is one of {AUTO}, {', '.join(MODES)}"
        )
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
    """Raise `LackingError` unless vfio has the function, and its group to itself."""
    function.require_group()
    if not function.driver or rebind.has_host_driver(function):
        holder = f"{function.driver} holds it" if function.driver else "no driver holds it"
        raise LackingError(f"{function} is not vfio's, {holder}: lend it to vfio with --bind")
    rebind.require_viable_group(function)


def check_modes(function: PciFunction) -> list[ModeAvailability]:
    """All five modes, best first, each with what it lacks for this device."""
    return [ModeAvailability(mode, _lacks(function, mode)) for mode in MODES]


def _open_space(function: PciFunction, mode: str) -> IoAddressSpace:
    if mode == AUTO:
        offers = check_modes(function)
        mode = next((offer.mode for offer in offers if not offer.lacks), "")
        if not mode:
            raise LackingError(f"no IOMMU mode works for {function}: {'; '.join(map(str, offers))}")
    return Iommufd.open() if mode not in CONTAINER_MODES else Container.open(mode)


def _lacks(function: PciFunction, mode: str) -> str | None:
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
