# SPDX-License-Identifier: GPL-2.0-only
"""Device nodes of vfio and iommufd: opening them, and why that failed."""

import contextlib
import errno
import os
from pathlib import Path

from pyvmm.errors import LackingError
from pyvmm.vfio.sysfs import IommuGroup

CONTAINER = Path("/dev/vfio/vfio")
IOMMUFD = Path("/dev/iommu")
GROUPS = Path("/dev/vfio")
CDEVS = Path("/dev/vfio/devices")

_REMEDY = {
    CONTAINER: "load module vfio_iommu_type1 (CONFIG_VFIO_CONTAINER)",
    IOMMUFD: "load module iommufd (CONFIG_IOMMUFD)",
}


def open_node(path: Path, group: IommuGroup | None = None) -> int:
    """Open a device node and return the descriptor. Raises `LackingError`.

    `group` is the IOMMU group of a group's node or a device's cdev.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise LackingError(explain_open_error(path, error.errno or 0, group)) from None


def explain_open_error(path: Path, number: int, group: IommuGroup | None = None) -> str:
    """Return why open(2) of a device node failed with errno `number`, and what to do."""
    match number:
        case errno.ENOENT:
            remedy = _REMEDY.get(path, "check that the device is bound to a vfio driver")
            return f"{path} does not exist: {remedy}"
        case errno.EACCES | errno.EPERM:
            return f"permission denied on {path}: check its owner and mode, or run as root"
        case errno.EBUSY:
            return f"{path} is busy: {_explain_busy(path, group)}"
        case errno.ENODEV:
            return f"{path} has no device: it was removed or unbound; check lspci and dmesg"
    return f"cannot open {path}: {os.strerror(number)}"


def _explain_busy(path: Path, group: IommuGroup | None) -> str:
    # The group's node and the cdevs of its devices exclude each other, so any of them counts.
    paths = {path}
    if group:
        paths |= {GROUPS / str(group.number)}
        paths |= {CDEVS / member.cdev for member in group.members() if member.cdev}
    if processes := sorted({process for each in paths for process in _processes_with(each)}):
        return f"open in {', '.join(processes)}; end that process first"
    return f"open in a process of another user; as root, fuser -v {path} shows it"


def _processes_with(path: Path) -> list[str]:
    """Return the processes that have `path` open, as ``name (PID)``, if /proc shows them."""
    processes = []
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # closed meanwhile, or another user's
            if fd.readlink() == path:
                process = fd.parents[1]
                processes.append(f"{(process / 'comm').read_text().strip()} ({process.name})")
    return processes
