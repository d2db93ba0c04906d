# SPDX-License-Identifier: GPL-2.0-only
"""Reject files that are not complete arm64 kernels, before QEMU runs one without any output."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from pyvmm import kernel_image
from pyvmm.errors import UsageError
from pyvmm.lab import kernel


@pytest.fixture(scope="module")
def image() -> bytes:
    images = sorted(kernel.store().glob("*/Image"))
    if not images:
        pytest.skip("needs a cached kernel: pyvmm lab setup --kernel debian")
    return images[-1].read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda image: b"",
        lambda image: b"not a kernel\n" * 1000,
        lambda image: image[:0x38],
        lambda image: image[:0x1000],
        lambda image: image[: len(image) // 2],
        lambda image: bytes(64) + image[64:],
        lambda image: gzip.compress(image, 1)[:-100000],
        lambda image: gzip.compress(b"not a kernel"),
        lambda image: b"\x1f\x8b" + bytes(64),
        lambda image: gzip.compress(bytes((256 << 20) + 1), 1),
    ],
    ids=[
        *("empty", "text", "no magic", "page", "half", "zeroes", "cut gzip", "gzip", "no gzip"),
        "gzip bomb",
    ],
)
def test_file_that_is_no_kernel(
    image: bytes, damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    (tmp_path / "Image").write_bytes(damage(image))
    with pytest.raises(UsageError, match="Image is no complete arm64 kernel: "):
        kernel_image.check(tmp_path / "Image")


@pytest.mark.parametrize("pack", [bytes, lambda image: gzip.compress(image, 1)])
def test_complete_kernel(image: bytes, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    (tmp_path / "Image").write_bytes(pack(image))
    kernel_image.check(tmp_path / "Image")
    read = kernel_image.read(tmp_path / "Image")
    assert read.data == image
    assert (read.text_offset, read.memory_size) == struct.unpack_from("<QQ", image, 8)
    assert read.memory_size >= len(image)


def test_distribution_kernel_cut_in_its_last_section(tmp_path: Path) -> None:
    images = sorted(kernel.store().glob("debian-*/Image"))
    if not images:
        pytest.skip("needs a cached Debian kernel: pyvmm lab setup --kernel debian")
    # The section table of the EFI header gives the exact size; a signature follows it.
    (tmp_path / "Image").write_bytes(images[-1].read_bytes()[:-8192])
    with pytest.raises(UsageError, match=r"is no complete arm64 kernel: it has .* bytes of "):
        kernel_image.check(tmp_path / "Image")
