# SPDX-License-Identifier: GPL-2.0-only
"""Private directories in ``$TMPDIR``, which do not outlive their processes for long.

The owner holds a flock(2) on its directory, which the kernel releases however the owner ends. A
later owner removes the directories of this user that nobody holds: SIGKILL leaves one behind.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "pyvmm-"


@contextlib.contextmanager
def create() -> Iterator[Path]:
    """Yield a new directory with mode 0700 for this process; remove it when the block ends."""
    _remove_unowned()
    path, descriptor = _create_owned()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def _create_owned() -> tuple[Path, int]:
    """Create a directory, and return it with the file descriptor that holds its lock."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        with contextlib.suppress(FileNotFoundError):  # removed before it was locked
            descriptor = _open(path)
            with contextlib.suppress(OSError):  # a file system without locks: nobody removes it
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if path.exists():
                return path, descriptor
            os.close(descriptor)


def _remove_unowned() -> None:
    """Remove this user's directories whose owners have died."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}[0-9]*-*"):
        with contextlib.suppress(OSError):  # another user's, no directory, or just removed
            descriptor = _open(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.geteuid():
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
