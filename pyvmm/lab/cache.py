# SPDX-License-Identifier: GPL-2.0-only
"""The lab's files in the user's cache directory, each created atomically.

A file or directory is built under a temporary name and renamed when it is complete. So a final
name is always valid, even if a process was killed while it built one. The builder holds a lock on
the name: a second process waits for the lock and then uses the result.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyvmm.cache_dir import root as root  # re-export: the lab's only access to the cache
from pyvmm.errors import LackingError
from pyvmm.output_file import OutputError

# Package lists and archives, kernel headers, unpacked packages, kernel sources and objects,
# kernels, compiled Python, and console logs.
DIRECTORIES = ("apt", "headers", "trees", "build", "kernels", "pycache", "logs")
_LISTED_AS_ONE = ("pycache", "logs")
_PARTIAL = ".partial-"


@contextlib.contextmanager
def create(path: Path) -> Iterator[Path | None]:
    """Create `path` atomically; yield a temporary path to fill, or None if `path` exists.

    The temporary path does not exist: create a file or a directory there. It is renamed to
    `path` when the block ends, and removed if the block raises.
    """
    if path.exists():
        yield None
        return
    with lock(path):
        if path.exists():
            yield None
            return
        partial = path.with_name(_PARTIAL + path.name)
        remove(partial)  # may be left over from a killed process
        try:
            yield partial
            os.utime(partial)
            partial.rename(path)
        finally:
            remove(partial)


def require_space(size: int) -> None:
    """Raise `LackingError` if the cache's disk has less than `size` bytes free.

    Call it before apt runs: apt hangs on a full disk.
    """
    root().mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root()).free
    if free < size:
        raise LackingError(
            f"no space left: {root()} needs {size >> 20} MiB and its disk has {free >> 20} MiB "
            "free: free some, or set XDG_CACHE_HOME to another disk"
        )


@contextlib.contextmanager
def convert_errors() -> Iterator[None]:
    """Turn the block's `OSError` for a full or read-only cache into a `LackingError`."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            problem = "has no space left: free some"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR):
            problem = "cannot be written: fix its permissions"
        else:
            raise
        raise LackingError(
            f"{root()} {problem}, or set XDG_CACHE_HOME to another directory"
        ) from None


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold an exclusive flock(2) for `path`; it is released if this process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".lock-{path.name}").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove(path: Path) -> None:
    """Remove a file or directory, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def clean() -> None:
    """Remove the lab's files; other files in the cache directory stay."""
    for name in DIRECTORIES:
        remove(root() / name)


@dataclass(frozen=True)
class Entry:
    """A complete file or directory in the cache.

    Attributes:
        name: path below the root.
        size: disk space in bytes.
        mtime: modification time in seconds since the epoch.
    """

    name: str
    size: int
    mtime: float


def entries() -> list[Entry]:
    """Return the complete files and directories in the cache."""
    found = []
    for name in DIRECTORIES:
        directory = root() / name
        for path in [directory] if name in _LISTED_AS_ONE else sorted(directory.glob("[!.]*")):
            with contextlib.suppress(FileNotFoundError):  # removed by another process
                mtime = path.stat().st_mtime
                found.append(Entry(str(path.relative_to(root())), _size(path), mtime))
    return found


def _size(path: Path) -> int:
    """Return the disk space of `path` in bytes, counting each hard-linked file once."""
    paths = [path, *path.rglob("*")] if path.is_dir() else [path]
    blocks = {}
    for each in paths:
        with contextlib.suppress(FileNotFoundError):
            status = each.lstat()
            blocks[status.st_ino] = status.st_blocks * 512
    return sum(blocks.values())
