# SPDX-License-Identifier: GPL-2.0-only
"""The lab's files in the user's cache directory, each created atomically and checked before use.

A file or directory is built under a temporary name and renamed when it is complete. So a final
name is always complete, even if a process was killed while it built one. The builder holds a lock
on the name: a second process waits for the lock and then uses the result.

A record beside it has the size, mtime and SHA-256 of each file. A file with another size or mtime
is read and compared with its digest; if that differs, the whole path is created again.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyvmm.cache_dir import root as root  # re-export: the lab's only access to the cache
from pyvmm.errors import LackingError
from pyvmm.output_file import OutputError

# Package lists and archives, kernel headers, unpacked packages, kernel sources and objects,
# kernels, selftests, compiled Python, and console logs.
DIRECTORIES = ("apt", "headers", "trees", "build", "kernels", "selftests", "pycache", "logs")
_LISTED_AS_ONE = ("pycache", "logs")
_PARTIAL = ".partial-"
_RECORD = ".record-"

# The content of a path: size, mtime in nanoseconds and SHA-256 of a file, the target of a symlink,
# or None for a directory.
_Content = list[int | str] | str | None


@contextlib.contextmanager
def create(path: Path, *, replace: bool = False) -> Iterator[Path | None]:
    """Create `path` atomically; yield a temporary path to fill, or None if `path` is intact.

    The temporary path does not exist: create a file or a directory there. It is renamed to
    `path` when the block ends, and removed if the block raises. With `replace`, it always replaces
    `path`.
    """
    if not replace and is_intact(path):
        yield None
        return
    with lock(path):
        if not replace and is_intact(path):
            yield None
            return
        partial = path.with_name(_PARTIAL + path.name)
        remove(partial)  # may be left over from a killed process
        try:
            yield partial
            os.utime(partial)
            remove(path)
            record(partial, path)
            partial.rename(path)
        finally:
            remove(partial)


def is_intact(path: Path) -> bool:
    """Return True if `path` exists, and is as it was when it was created.

    A path without a record was created by an earlier version: record it now.
    """
    if not path.exists():
        return False
    if not (place := _record_path(path)).exists():
        with contextlib.suppress(OSError):  # a read-only cache
            record(path, path)
        return True
    try:
        recorded = json.loads(place.read_text())
        current = {name: _describe(path / name, known) for name, known in recorded.items()}
        if "" not in current or _without_mtime(current) != _without_mtime(recorded):
            return False
    # The last five if the record is damaged.
    except (OSError, ValueError, AttributeError, TypeError, IndexError, RecursionError):
        return False
    if current != recorded:
        with contextlib.suppress(OSError):
            _write_record(path, current)  # the next check reads no file
    return True


def record(content: Path, path: Path) -> None:
    """Record the content of one path as that of `path`, for `is_intact`."""
    found = {"": _describe(content)}
    for directory, directories, files in os.walk(content):
        for each in (Path(directory, name) for name in (*directories, *files)):
            found[str(each.relative_to(content))] = _describe(each)
    _write_record(path, found)


def _describe(path: Path, known: Any = None) -> _Content:
    """Return the content of a path; without reading the file if `known` has its size and mtime."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return str(path.readlink())
    if not stat.S_ISREG(status.st_mode):
        return None
    if known and known[:2] == [status.st_size, status.st_mtime_ns]:
        return [status.st_size, status.st_mtime_ns, known[2]]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return [status.st_size, status.st_mtime_ns, digest]


def _without_mtime(contents: dict[str, _Content]) -> dict[str, _Content]:
    return {
        name: [each[0], each[2]] if isinstance(each, list) else each
        for name, each in contents.items()
    }


def _record_path(path: Path) -> Path:
    return path.with_name(_RECORD + path.name)


def _write_record(path: Path, contents: dict[str, _Content]) -> None:
    place = _record_path(path)
    partial = place.with_name(f"{place.name}.{os.getpid()}")
    partial.write_text(json.dumps(contents))
    if place.is_dir():
        remove(place)
    partial.rename(place)


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
