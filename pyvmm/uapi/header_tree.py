# SPDX-License-Identifier: GPL-2.0-only
"""The paths of ``linux/`` and of an architecture's ``asm/`` in a directory of kernel headers.

The directory is one of

* a kernel tree, built or not,
* an unpacked Debian ``linux-libc-dev``: for all architectures, up to Debian 12 for one,
* the INSTALL_HDR_PATH of ``make headers_install``, for the ARCH it was called with.

A kernel tree needs no make: `HeaderTree.generated` replaces the few headers that its build would
generate.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pyvmm.input_file import read_bytes
from pyvmm.uapi.model import HeaderError

# pyvmm's name of an architecture → its name in the kernel tree, and its GNU triplet.
ARCHITECTURES = {"arm64": ("arm64", "aarch64-linux-gnu"), "x86_64": ("x86", "x86_64-linux-gnu")}

# scripts/headers_install.sh removes these words, and the header, from the installed headers.
_COMPILER = """\
#define __user
#define __force
#define __iomem
#define __attribute_const__
#define __packed __attribute__((packed))
"""

_WANTED = (
    "give a kernel tree, an unpacked linux-libc-dev, or the INSTALL_HDR_PATH of "
    "`make headers_install ARCH=arm64` (or x86)"
)


@dataclass(frozen=True)
class HeaderTree:
    """The headers of one architecture."""

    directory: Path
    architecture: str  # a key of ARCHITECTURES
    version: str  # of the kernel, "7.2.12"
    paths: tuple[Path, ...]  # include directories, that of ``linux/`` last
    generated: dict[str, str] = field(default_factory=dict)  # "asm/types.h" → its text

    def text(self, name: str) -> str | None:
        """Return the text of the header ``#include <name>`` means, or None if it is missing."""
        for path in self.paths:
            if (path / name).is_file():
                return read_bytes(path / name).decode(errors="replace")
        return self.generated.get(name)

    def closure(self, names: Iterable[str]) -> dict[str, str]:
        """Return the text of headers and of all headers that they may include, by name."""
        found: dict[str, str] = {}
        todo = list(names)
        while todo:
            name = todo.pop()
            if name not in found and (text := self.text(name)) is not None:
                found[name] = text
                todo += re.findall(r"^\s*#\s*include\s*<([^>]+)>", text, re.MULTILINE)
        return found


def find(directory: Path, architecture: str) -> HeaderTree:
    """Find the headers of an architecture. Raises `HeaderError` if there are none."""
    found = _find(directory, architecture)
    if found is None:
        raise HeaderError(f"{directory} holds no kernel headers for {architecture}: {_WANTED}")
    return found


def architectures(directory: Path) -> list[str]:
    """Return the architectures of a directory's headers. Raises `HeaderError` if it has none."""
    found = [architecture for architecture in ARCHITECTURES if _find(directory, architecture)]
    if not found:
        raise HeaderError(f"{directory} holds no kernel headers: {_WANTED}")
    return found


def _find(directory: Path, architecture: str) -> HeaderTree | None:
    try:
        return _kernel_tree(directory, architecture) or _installed(directory, architecture)
    except OSError as error:
        raise HeaderError(f"{error.filename} cannot be read: {error.strerror}") from None


def _kernel_tree(directory: Path, architecture: str) -> HeaderTree | None:
    kernel, _ = ARCHITECTURES[architecture]
    own, common = directory / f"arch/{kernel}/include/uapi", directory / "include/uapi"
    if not (common / "linux/kvm.h").is_file() or not own.is_dir():
        return None
    # Kbuild's generic-y and mandatory-y: an architecture without asm/x.h uses asm-generic/x.h.
    generic = [path.name for path in (common / "asm-generic").glob("*.h")]
    generated = {f"asm/{name}": f"#include <asm-generic/{name}>\n" for name in generic}
    generated |= {"linux/compiler.h": _COMPILER, "linux/compiler_types.h": ""}
    return HeaderTree(directory, architecture, _source_version(directory), (own, common), generated)


def _installed(directory: Path, architecture: str) -> HeaderTree | None:
    kernel, gnu = ARCHITECTURES[architecture]
    for root in (directory / "usr/include", directory / "include", directory):
        if not (root / "linux/kvm.h").is_file() or not (root / "linux/version.h").is_file():
            continue
        for asm in (root / gnu, directory / "usr/lib/linux/uapi" / kernel, root):
            if (asm / "asm/kvm.h").is_file():
                paths = (asm,) if asm == root else (asm, root)
                return HeaderTree(directory, architecture, _installed_version(root), paths)
    return None


def _source_version(directory: Path) -> str:
    makefile = read_bytes(directory / "Makefile").decode(errors="replace")
    numbers = [
        re.search(rf"^{part} *= *(\d+)$", makefile, re.MULTILINE)
        for part in ("VERSION", "PATCHLEVEL", "SUBLEVEL")
    ]
    if None in numbers:
        raise HeaderError(f"{directory}/Makefile has no kernel version: give a kernel tree")
    return ".".join(number[1] for number in numbers if number)


def _installed_version(include: Path) -> str:
    header = include / "linux/version.h"
    code = re.search(r"LINUX_VERSION_CODE (\d+)", read_bytes(header).decode(errors="replace"))
    if code is None:
        raise HeaderError(f"{header} has no LINUX_VERSION_CODE: {_WANTED}")
    number = int(code[1])
    return f"{number >> 16}.{number >> 8 & 255}.{number & 255}"
