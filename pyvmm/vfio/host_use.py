# SPDX-License-Identifier: GPL-2.0-only
"""Reasons why the host needs a PCI function: mounted disks, network interfaces that are up."""

import errno
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from pyvmm.vfio.sysfs import PciFunction

_IFF_UP = 1  # linux/if.h
_ESCAPE = re.compile(r"\\([0-7]{3})")


def host_uses(function: PciFunction) -> list[str]:
    """Return the reasons why the host needs `function`, each as a clause.

    The reasons are: a bridge, the boot display, a network interface that is up, a mounted shared
    folder (9p, virtiofs), and a disk that is mounted, used for swap, part of another device
    (device mapper, md, …) or opened with ``O_EXCL``.
    """
    home = function.path.resolve()
    reasons = []
    if function.is_bridge:
        reasons.append("it is a bridge to other devices")
    if function.is_boot_display:
        reasons.append("it is the boot display")
    reasons += [f"network interface {name} is up" for name in _interfaces_up(home)]
    reasons += [f"disk {name} {use}" for name, use in _disks(home)]
    reasons += [f"shared folder {tag} is mounted on {target}" for tag, target in _shares(home)]
    return reasons


def _interfaces_up(home: Path) -> Iterator[str]:
    for interface in _below(home, Path("/sys/class/net")):
        if int((interface / "flags").read_text(), 16) & _IFF_UP:
            yield interface.name


def _disks(home: Path) -> Iterator[tuple[str, str]]:
    mounts = defaultdict(list)
    for target, _, source in _mounts():
        mounts[Path(source).resolve()].append(target)
    swaps = {Path(line.split()[0]).resolve() for line in _lines("/proc/swaps")}
    for disk in _below(home, Path("/sys/class/block")):
        node = Path("/dev") / disk.name.replace("!", "/")
        holders = disk / "holders"
        if node in mounts:
            yield disk.name, f"is mounted on {', '.join(mounts[node])}"
        elif node in swaps:
            yield disk.name, "is used for swap"
        elif parts_of := sorted(h.name for h in holders.iterdir()) if holders.is_dir() else []:
            yield disk.name, f"is part of {', '.join(parts_of)}"
        elif _is_claimed(node):
            yield disk.name, "is in use"


def _is_claimed(node: Path) -> bool:
    """Return True if a block device is open exclusively: open(2) with O_EXCL gives EBUSY."""
    try:
        os.close(os.open(node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _shares(home: Path) -> Iterator[tuple[str, str]]:
    tags = {tag.read_text().strip("\0\n") for tag in home.glob("virtio*/mount_tag")}
    tags |= {(fs / "tag").read_text().strip() for fs in _below(home, Path("/sys/fs/virtiofs"))}
    for target, kind, source in _mounts():
        if kind in ("9p", "virtiofs") and source in tags:
            yield source, target


def _below(home: Path, folder: Path) -> Iterator[Path]:
    """Yield the members of the sysfs class `folder` that belong to the device at `home`."""
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        path = entry.resolve()
        if path.is_relative_to(home) or (path / "device").resolve().is_relative_to(home):
            yield path


def _mounts() -> Iterator[tuple[str, str, str]]:
    """Yield mount point, file system type and source of each mount in this mount namespace."""
    for line in _lines("/proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        kind, source, *_ = after.split(" ")
        yield _unescape(before.split()[4]), kind, _unescape(source)


def _lines(path: str) -> list[str]:
    """Return the lines of a file in /proc, or none if the kernel does not have it."""
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
