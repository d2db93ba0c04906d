# SPDX-License-Identifier: GPL-2.0-only
"""arm64 kernel images: a check that a file is complete, and the header that a boot loader reads.

The format is in Documentation/arch/arm64/booting.rst. The header has the size in memory, with the
BSS, but not the size of the file. Two parts of the file give lower bounds of it: the branch in the
first two instructions, whose target is in the init text after the kernel's text and read-only
data, and the section table of a kernel with an EFI stub, which is exact.
"""

import gzip
import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from pyvmm.errors import UsageError
from pyvmm.input_file import read_bytes

_LIMIT = 256 << 20  # bytes, also uncompressed; kernels have 10 to 70 MiB
_GZIP = b"\x1f\x8b"
_MAGIC = b"ARM\x64"
_MAGIC_OFFSET = 0x38
# An EFI program that unpacks itself: drivers/firmware/efi/libstub/zboot-header.S. At offset 8 are
# the payload's offset and size, at 24 its compression.
_ZBOOT_MAGIC = b"zimg"
_ZBOOT = struct.Struct("<8xII8x32s")
_BRANCH = 0b000101  # opcode of B, in bits 31:26
_HEADER = struct.Struct("<8xQQQ")  # text_offset, image_size, flags
_DEFAULT_TEXT_OFFSET = 0x8_0000  # if image_size is 0: before Linux 3.17


@dataclass(frozen=True)
class KernelImage:
    """An uncompressed Image.

    Attributes:
        text_offset: byte offset from a 2 MiB boundary at which it is loaded.
        memory_size: its size in memory, with the BSS.
    """

    data: bytes
    text_offset: int
    memory_size: int


def read(path: Path) -> KernelImage:
    """Read an Image, plain or compressed with gzip. Raises `UsageError` as `check` does."""
    data = read_bytes(path, _LIMIT)
    try:
        image = _complete(data)
        if image.startswith(_ZBOOT_MAGIC, 4):
            image = _complete(_zboot_payload(image))
        text_offset, size, _ = _HEADER.unpack_from(image)
    except _DAMAGE as error:
        raise _error(path, error) from None
    return KernelImage(image, text_offset if size else _DEFAULT_TEXT_OFFSET, size or len(image))


def check(path: Path) -> None:
    """Raise `UsageError` if `path` is not an arm64 Image, plain or compressed, or is truncated."""
    data = read_bytes(path, _LIMIT)
    try:
        _complete(data)
    except _DAMAGE as error:
        raise _error(path, error) from None


_DAMAGE = (ValueError, EOFError, gzip.BadGzipFile, zlib.error, struct.error)


def _error(path: Path, error: Exception) -> UsageError:
    return UsageError(f"{path} is no complete arm64 kernel: {error}; pass an Image or Image.gz")


def _complete(data: bytes) -> bytes:
    """Return the uncompressed image, with its length checked; raise one of `_DAMAGE`."""
    image = _decompress(data) if data.startswith(_GZIP) else data
    if not image.startswith(_MAGIC, _MAGIC_OFFSET) and not image.startswith(_ZBOOT_MAGIC, 4):
        raise ValueError(f"the magic {_MAGIC.decode()} is missing at {_MAGIC_OFFSET:#x}")
    least = max(_branch_target(image), _end_of_sections(image))
    if len(image) < least:
        raise ValueError(f"it has {len(image)} bytes of at least {least}")
    return image


def _zboot_payload(image: bytes) -> bytes:
    offset, size, compression = _ZBOOT.unpack_from(image)
    name = compression.split(b"\0")[0].decode(errors="replace")
    if name != "gzip":
        raise ValueError(f"its payload is compressed with {name}: unpack it first")
    return _decompress(image[offset : offset + size])


def _decompress(data: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        image = file.read(_LIMIT + 1)
    if len(image) > _LIMIT:
        raise ValueError(f"it has more than {_LIMIT >> 20} MiB uncompressed")
    return image


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
