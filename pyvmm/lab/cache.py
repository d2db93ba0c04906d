# SPDX-License-Identifier: GPL-2.0-only
"""The user's cache: what the lab keeps between runs, and how it gets there in one piece.

Everything is made in a directory beside its place and renamed into it when it is whole, so
that what has its own name can be trusted, whenever the maker was killed. A maker holds a lock
on the name: a second one waits, then finds the work done.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyvmm.cache_dir import root as root  # the lab asks this module for all that it keeps
from pyvmm.errors import LackingError

# The rooms of the cache: package lists and archives, kernel headers, unpacked trees, the kernels'
# sources and objects, kernels, compiled Python, and consoles' logs.
KEPT = ("apt", "headers", "trees", "build", "kernels", "pycache", "logs")
_SMALL = ("pycache", "logs")  # of what is in these, no one wants a list
_PARTIAL = ".partial-"


@contextlib.contextmanager
def making(place: Path) -> Iterator[Path | None]:
    """Make ``place``, once: yields the path to fill, or None where it is there already.

    The path yielded does not exist; create a file or a directory there. It becomes ``place``
    when the block ends, and is removed when the block raises.
    """
    if place.exists():
        yield None
        return
    with locked(place):
        if place.exists():
            yield None
            return
        partial = place.with_name(_PARTIAL + place.name)
        remove(partial)  # a killed maker's leavings
        try:
            yield partial
            os.utime(partial)
            partial.rename(place)
        finally:
            remove(partial)


def need(size: int) -> None:
    """Raise `LackingError` where the cache's disk has fewer bytes to spare than what is to come.

    Said beforehand, since apt waits for ever when a disk is full.
    """
    root().mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root()).free
    if free < size:
        raise LackingError(
            f"no space left: {root()} needs {size >> 20} MiB more and its disk has {free >> 20}: "
            "free some, or set XDG_CACHE_HOME elsewhere"
        )


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Raise `LackingError` for what the block finds wrong with the cache's disk or permissions."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            problem = "has no space left: free some"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR):
            problem = "cannot be written: change that"
        else:
            raise
        raise LackingError(f"{root()} {problem}, or set XDG_CACHE_HOME elsewhere") from None


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """Hold the lock of ``place``; the kernel gives it back when the holder dies."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f".lock-{place.name}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove(path: Path) -> None:
    """Remove a file or a directory; fine if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def clean() -> None:
    """Remove all that the lab keeps; what others keep in the same place stays."""
    for name in KEPT:
        remove(root() / name)


@dataclass(frozen=True)
class Entry:
    """One thing in the cache: its name under the root, size in bytes, and when it was made."""

    name: str
    size: int
    made: float


def entries() -> list[Entry]:
    """What is cached and whole, by name."""
    found = []
    for name in KEPT:
        room = root() / name
        for path in [room] if name in _SMALL else sorted(room.glob("[!.]*")):
            with contextlib.suppress(FileNotFoundError):  # gone, meanwhile
                made = path.stat().st_mtime
                found.append(Entry(str(path.relative_to(root())), _size(path), made))
    return found


def _size(path: Path) -> int:
    """Bytes on disk, each hard-linked file once."""
    paths = [path, *path.rglob("*")] if path.is_dir() else [path]
    blocks = {}
    for each in paths:
        with contextlib.suppress(FileNotFoundError):
            status = each.lstat()
            blocks[status.st_ino] = status.st_blocks * 512
    return sum(blocks.values())
