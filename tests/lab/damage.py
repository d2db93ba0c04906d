# SPDX-License-Identifier: GPL-2.0-only
"""Ways to damage a file of the cache."""

import os
from collections.abc import Callable
from pathlib import Path


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def replace_by_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGE: dict[str, Callable[[Path], None]] = {
    "flip": _flip,
    "truncate": lambda file: os.truncate(file, file.stat().st_size // 2),
    "empty": lambda file: os.truncate(file, 0),
    "remove": Path.unlink,
    "directory": replace_by_directory,
}
