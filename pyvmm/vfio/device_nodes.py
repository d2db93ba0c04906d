# SPDX-License-Identifier: GPL-2.0-only
"""Opening vfio's and iommufd's device nodes, and saying why one can't be opened."""

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


def open_node(path: Path, group: IommuGroup | None = None) -> int:
    """A new descriptor for a device node. Raises `LackingError`.

    `group` is the IOMMU group that the node belongs to, if it does to one.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise LackingError(explain_open_error(path, error.errno or 0, group)) from None


def explain_open_error(path: Path, number: int, group: IommuGroup | None = None) -> str:
    """Why open(2) of a device node failed with errno `number`, and the way out."""
    match number:
        case errno.ENOENT:
            return f"there is no {path}: {_REMEDY.get(path, 'is a vfio driver bound?')}"
        case errno.EACCES | errno.EPERM:
            return f"no permission on {path}: run as root, or let your user own it (a udev rule)"
        case errno.EBUSY:
            return f"{path} is busy: {_by_whom(path, group)}"
        case errno.ENODEV:
            return f"{path} leads nowhere: the device has gone"
    return f"{path} can't be opened: {os.strerror(number)}"


_REMEDY = {
    CONTAINER: "load the module vfio_iommu_type1 (CONFIG_VFIO_CONTAINER)",
    IOMMUFD: "load the module iommufd (CONFIG_IOMMUFD)",
}


def processes_holding(path: Path) -> list[str]:
    """The processes that have `path` open, as ``name (PID)``, as far as we may see."""
    found = []
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # it was closed meanwhile, or is someone else's
            if fd.readlink() == path:
                process = fd.parents[1]
                found.append(f"{(process / 'comm').read_text().strip()} ({process.name})")
    return sorted(set(found))


def _by_whom(path: Path, group: IommuGroup | None) -> str:
    # A group and the cdevs of its devices exclude each other: whoever has one keeps all busy.
    paths = {path}
    if group:
        paths |= {GROUPS / str(group.number)}
        paths |= {CDEVS / member.cdev for member in group.members() if member.cdev}
    if held := sorted({holder for each in paths for holder in processes_holding(each)}):
        return f"{', '.join(held)} has it open: end that first"
    return "a process that we may not see has it open (as root: fuser -v shows it)"
