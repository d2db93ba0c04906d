# SPDX-License-Identifier: GPL-2.0-only
"""A directory of kernel headers: where in it ``linux/`` and an architecture's ``asm/`` are.

It is one of

* an unpacked Debian ``linux-libc-dev``: every architecture's, or up to Debian 12 that of one,
* what ``make headers_install`` put into INSTALL_HDR_PATH, for the one architecture it was told.
"""

import re
from pathlib import Path

from pyvmm.uapi.model import HeaderError

# Our name of an architecture → its name in the kernel tree, and GNU's.
ARCHITECTURES = {"arm64": ("arm64", "aarch64-linux-gnu"), "x86_64": ("x86", "x86_64-linux-gnu")}


def include_paths(directory: Path, architecture: str) -> list[Path]:
    """Find the include directories, that of ``linux/`` last.

    Raises `HeaderError` where the directory has none for this architecture.
    """
    kernel, gnu = ARCHITECTURES[architecture]
    for root in (directory / "usr/include", directory / "include", directory):
        if not (root / "linux/version.h").is_file():
            continue
        for asm in (root / gnu, directory / "usr/lib/linux/uapi" / kernel, root):
            if (asm / "asm/types.h").is_file():
                return [asm] if asm == root else [asm, root]
    raise HeaderError(
        f"{directory} holds no kernel headers for {architecture}: give an unpacked linux-libc-dev, "
        f"or the INSTALL_HDR_PATH of `make headers_install ARCH={kernel}`"
    )


def version(include: Path) -> str:
    """Return the kernel's version, "7.2.12", by ``linux/version.h``."""
    header = include / "linux/version.h"
    code = re.search(r"LINUX_VERSION_CODE (\d+)", header.read_text())
    if code is None:
        raise HeaderError(f"{header} names no version")
    number = int(code[1])
    return f"{number >> 16}.{number >> 8 & 255}.{number & 255}"
