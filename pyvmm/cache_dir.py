# SPDX-License-Identifier: GPL-2.0-only
"""The user's cache directory. Each room that caches files has a subdirectory of its own.

A file that `write` created begins with a line that has the SHA-256 of the rest, so that `read`
detects damage. `pyvmm.lab.cache` checks whole directories.
"""

import hashlib
import os
import tempfile
from pathlib import Path


def root() -> Path:
    """Return ``$XDG_CACHE_HOME/pyvmm``, or ``~/.cache/pyvmm`` if that variable is not set."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pyvmm"


def read(path: Path) -> bytes | None:
    """Return the content that `write` stored; None if the file is unreadable or damaged."""
    try:
        return verified(path.read_bytes())
    except OSError:
        return None


def verified(stored: bytes) -> bytes | None:
    """Return the content of a file that `write` created, or None if it is damaged."""
    digest, _, content = stored.partition(b"\n")
    return content if digest == _digest(content) else None


def write(path: Path, content: bytes) -> None:
    """Store `content` in a file of the cache, atomically. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as partial:
        partial.write(_digest(content) + b"\n" + content)
    Path(partial.name).rename(path)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
