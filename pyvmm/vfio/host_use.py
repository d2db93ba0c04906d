# SPDX-License-Identifier: GPL-2.0-only
"""What the host uses a PCI function for, so that nobody takes the disk it runs from."""

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
    """Why the host needs `function`, each reason a few words; empty where it does not.

    Seen are: a bridge, the boot display, a network interface that is up, a disk that is mounted,
    swapped to, part of another (device mapper, md, …) or held open exclusively by anything else,
    and a mounted shared folder (9p, virtiofs) that the function carries.
    """
    home = function.path.resolve()
    found = []
    if function.is_bridge:
        found.append("it is a bridge, with other devices behind it")
    if function.is_boot_display:
        found.append("it is the boot display")
    found += [f"its network interface {name} is up" for name in _interfaces_up(home)]
    found += [f"its disk {name} {how}" for name, how in _disks(home)]
    found += [f"its shared folder {tag} is mounted on {where}" for tag, where in _shares(home)]
    return found


def _interfaces_up(home: Path) -> Iterator[str]:
    for interface in _below(home, Path("/sys/class/net")):
        if int((interface / "flags").read_text(), 16) & _IFF_UP:
            yield interface.name


def _disks(home: Path) -> Iterator[tuple[str, str]]:
    mounts = defaultdict(list)
    for where, _, source in _mounts():
        mounts[Path(source).resolve()].append(where)
    swaps = {Path(line.split()[0]).resolve() for line in _lines("/proc/swaps")}
    for disk in _below(home, Path("/sys/class/block")):
        node = Path("/dev") / disk.name.replace("!", "/")
        holders = disk / "holders"
        if node in mounts:
            yield disk.name, f"is mounted on {', '.join(mounts[node])}"
        elif node in swaps:
            yield disk.name, "is swap"
        elif parts_of := sorted(h.name for h in holders.iterdir()) if holders.is_dir() else []:
            yield disk.name, f"is part of {', '.join(parts_of)}"
        elif _is_claimed(node):
            yield disk.name, "is in use"


def _is_claimed(node: Path) -> bool:
    """Whether the kernel refuses to share a block device: open(2) on O_EXCL without O_CREAT."""
    try:
        os.close(os.open(node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _shares(home: Path) -> Iterator[tuple[str, str]]:
    tags = {tag.read_text().strip("\0\n") for tag in home.glob("virtio*/mount_tag")}
    tags |= {(fs / "tag").read_text().strip() for fs in _below(home, Path("/sys/fs/virtiofs"))}
    for where, kind, source in _mounts():
        if kind in ("9p", "virtiofs") and source in tags:
            yield source, where


def _below(home: Path, folder: Path) -> Iterator[Path]:
    """The members of a sysfs class that hang off the device at `home`."""
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        path = entry.resolve()
        if path.is_relative_to(home) or (path / "device").resolve().is_relative_to(home):
            yield path


def _mounts() -> Iterator[tuple[str, str, str]]:
    """Mount point, file system type and source of each mount that this process sees."""
    for line in _lines("/proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        kind, source, *_ = after.split(" ")
        yield _unescape(before.split()[4]), kind, _unescape(source)


def _lines(path: str) -> list[str]:
    """The lines of a file in /proc; none where the kernel was built without it."""
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
