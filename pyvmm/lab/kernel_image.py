# SPDX-License-Identifier: GPL-2.0-only
"""A check that a file is a complete arm64 kernel, which fails before QEMU runs it in vain.

The format is in Documentation/arch/arm64/booting.rst. The header has the size in memory, with the
BSS, but not the size of the file. Two parts of the file give lower bounds of it: the branch in the
first two instructions, whose target is in the init text after the kernel's text and read-only
data, and the section table of a kernel with an EFI stub, which is exact.
"""

import gzip
import struct
import zlib
from pathlib import Path

from pyvmm.errors import UsageError

_GZIP = b"\x1f\x8b"
_MAGIC = b"ARM\x64"
_MAGIC_OFFSET = 0x38
_ZBOOT_MAGIC = b"zimg"  # at offset 4: a self-extracting EFI program, which QEMU unpacks
_BRANCH = 0b000101  # opcode of B, in bits 31:26


def check(path: Path) -> None:
    """Raise `UsageError` if `path` is not an arm64 Image, plain or compressed, or is truncated."""
    data = path.read_bytes()
    try:
        image = gzip.decompress(data) if data.startswith(_GZIP) else data
        if not image.startswith(_MAGIC, _MAGIC_OFFSET) and not image.startswith(_ZBOOT_MAGIC, 4):
            raise ValueError(f"the magic {_MAGIC.decode()} is missing at {_MAGIC_OFFSET:#x}")
        least = max(_branch_target(image), _end_of_sections(image))
        if len(image) < least:
            raise ValueError(f"it has {len(image)} bytes of at least {least}")
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise UsageError(
            f"{path} is no complete arm64 kernel: {error}; pass an Image or Image.gz"
        ) from None


def _branch_target(image: bytes) -> int:
    """Return the offset after the target of the branch in the first two instructions, or 0."""
    for offset, word in enumerate(struct.unpack_from("<2I", image)):
        if word >> 26 == _BRANCH:
            return 4 * (offset + int(word & 0x3FF_FFFF) + 1)
    return 0


def _end_of_sections(image: bytes) -> int:
    """Return the offset of the end of the last section in the PE header, or 0 without one."""
    (header,) = struct.unpack_from("<I", image, 0x3C)
    if not image.startswith(b"MZ"):
        return 0
    (sections,) = struct.unpack_from("<H", image, header + 6)
    (optional,) = struct.unpack_from("<H", image, header + 20)
    table = header + 24 + optional
    # SizeOfRawData, PointerToRawData
    ends = (sum(struct.unpack_from("<2I", image, table + 40 * n + 16)) for n in range(sections))
    return max(ends, default=0)
