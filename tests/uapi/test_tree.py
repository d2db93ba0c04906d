# SPDX-License-Identifier: GPL-2.0-only
"""Kernel headers are found wherever a directory has them."""

from pathlib import Path

import pytest

from pyvmm.uapi.model import HeaderError
from pyvmm.uapi.tree import include_paths, version


def make(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("#define LINUX_VERSION_CODE 459276\n")


@pytest.mark.parametrize(
    ("asm", "linux"),
    [
        ("usr/include/aarch64-linux-gnu", "usr/include"),
        ("usr/lib/linux/uapi/arm64", "usr/include"),
        ("usr/include", "usr/include"),
        ("include", "include"),
        (".", "."),
    ],
)
def test_the_layouts_of_a_directory(asm: str, linux: str, tmp_path: Path) -> None:
    make(tmp_path, f"{asm}/asm/types.h", f"{linux}/linux/version.h")
    paths = include_paths(tmp_path, "arm64")
    assert (paths[0] / "asm/types.h").is_file()
    assert version(paths[-1]) == "7.2.12"


@pytest.mark.parametrize(
    "names", [(), ("usr/include/linux/version.h", "usr/include/x86_64-linux-gnu/asm/types.h")]
)
def test_no_headers_of_this_architecture(names: tuple[str, ...], tmp_path: Path) -> None:
    make(tmp_path, *names)
    with pytest.raises(HeaderError, match=r"holds no kernel headers for arm64.*ARCH=arm64"):
        include_paths(tmp_path, "arm64")


def test_no_version(tmp_path: Path) -> None:
    make(tmp_path, "linux/version.h")
    (tmp_path / "linux/version.h").write_text("")
    with pytest.raises(HeaderError, match="names no version"):
        version(tmp_path)
