# SPDX-License-Identifier: GPL-2.0-only
"""A payload: its name, architecture and code."""

import functools
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from pyvmm.errors import UsageError
from pyvmm.guest.assemble import assemble
from pyvmm.input_file import read_bytes


@dataclass(frozen=True)
class Payload:
    """A flat binary that is entered at its first byte, at any page-aligned GPA.

    Attributes:
        name: the name of a built-in payload or of a file.
        arch: "arm64" or "x86_64".
        code: the binary.
    """

    name: str
    arch: str
    code: bytes

    @classmethod
    @functools.cache
    def builtin(cls, name: str, arch: str) -> "Payload":
        """Load a payload that pyvmm ships; raise `UsageError` for an unknown name."""
        binary = _folder(arch) / f"{name}.bin"
        if not binary.is_file():
            available = ", ".join(names(arch))
            raise UsageError(f"no payload {name!r} for {arch}; choose one of: {available}")
        return cls(name, arch, binary.read_bytes())

    @classmethod
    def of_file(cls, path: Path, arch: str) -> "Payload":
        """Load a file: assembly source if it ends in ``.s`` or ``.S``, else a flat binary.

        Raises `UsageError` if the file is unreadable or empty, and the errors of
        `pyvmm.guest.assemble.assemble`.
        """
        if path.suffix in (".s", ".S"):
            return cls(path.name, arch, assemble(path, arch))
        code = read_bytes(path)
        if not code:
            raise UsageError(f"the payload {path} is empty")
        return cls(path.name, arch, code)


def _folder(arch: str) -> Traversable:
    """Return the folder with the built-in payloads of `arch`: sources and binaries."""
    return resources.files("pyvmm.guest") / "payloads" / arch


def names(arch: str) -> list[str]:
    """Return the names of the built-in payloads of `arch`, sorted."""
    files = (entry.name for entry in _folder(arch).iterdir())
    return sorted(name.removesuffix(".s") for name in files if name.endswith(".s"))
