# SPDX-License-Identifier: GPL-2.0-only
"""A payload as the VMM handles it: a name, the architecture it is for, and its bytes."""

from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from pyvmm.errors import UsageError
from pyvmm.guest.assemble import assemble


@dataclass(frozen=True)
class Payload:
    """A flat binary that is entered at its first byte, at any page-aligned GPA.

    Attributes:
        name: what to call it: a built-in payload's name, or a file's.
        arch: "arm64" or "x86_64".
        code: the binary.
    """

    name: str
    arch: str
    code: bytes

    @classmethod
    def builtin(cls, name: str, arch: str) -> "Payload":
        """One that comes ready-made with pyvmm. Raises `UsageError` where there is none."""
        binary = folder(arch) / f"{name}.bin"
        if not binary.is_file():
            known = ", ".join(names(arch))
            raise UsageError(f"there is no payload {name!r} for {arch}; there are: {known}")
        return cls(name, arch, binary.read_bytes())

    @classmethod
    def of_file(cls, path: Path, arch: str) -> "Payload":
        """A file: assembly source where it ends in ``.s`` or ``.S``, else a flat binary.

        Raises what `pyvmm.guest.assemble.assemble` raises.
        """
        if path.suffix in (".s", ".S"):
            return cls(path.name, arch, assemble(path, arch))
        try:
            code = path.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read the payload {path}: {error.strerror}") from None
        if not code:
            raise UsageError(f"the payload {path} is empty")
        return cls(path.name, arch, code)


def folder(arch: str) -> Traversable:
    """Where the built-in payloads of `arch` are, sources and binaries."""
    return resources.files("pyvmm.guest") / "payloads" / arch


def names(arch: str) -> list[str]:
    """The names of the built-in payloads of `arch`."""
    files = (entry.name for entry in folder(arch).iterdir())
    return sorted(name.removesuffix(".s") for name in files if name.endswith(".s"))
