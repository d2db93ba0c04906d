# SPDX-License-Identifier: GPL-2.0-only
"""The user's cache directory. Each room that caches files has a subdirectory of its own."""

import os
from pathlib import Path


def root() -> Path:
    """Return ``$XDG_CACHE_HOME/pyvmm``, or ``~/.cache/pyvmm`` if that variable is not set."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pyvmm"
