# SPDX-License-Identifier: GPL-2.0-only
"""Files that the user names, read up to a limit: a device such as /dev/zero has no end."""

from pathlib import Path

from pyvmm.errors import UsageError
from pyvmm.units import size

LIMIT = 16 << 20  # bytes; more than a payload in RAM, or 32764 memslots as JSON


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """Return the content of a file. Raises `UsageError` if it is unreadable or above `limit`."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > limit:
        raise UsageError(f"cannot read {path}: it is larger than {size(limit)}")
    return content
