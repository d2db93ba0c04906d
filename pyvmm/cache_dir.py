# SPDX-License-Identifier: GPL-2.0-only
"""Where the user's cache is. Each room that keeps something there has a directory of its own."""

import os
from pathlib import Path


def root() -> Path:
    """``$XDG_CACHE_HOME/pyvmm``, or ``~/.cache/pyvmm``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pyvmm"
