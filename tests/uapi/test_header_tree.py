# SPDX-License-Identifier: GPL-2.0-only
"""Kernel headers are found in every supported kind of directory."""

from pathlib import Path

import pytest

from pyvmm.errors import UsageError
from pyvmm.uapi.header_tree import architectures, find
from pyvmm.uapi.model import HeaderError

VERSION = "#define LINUX_VERSION_CODE 459276\n"


def make(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(VERSION)


def kernel_tree(directory: Path) -> Path:
    files = {
        "Makefile": "# SPDX\nVERSION = 7\nPATCHLEVEL = 2\nSUBLEVEL = 12\nEXTRAVERSION = -foo\n",
        "arch/arm64/include/uapi/asm/kvm.h": "#include <linux/types.h>\n",
        "include/uapi/linux/kvm.h": "#include <asm/kvm.h>\n  #  include <linux/none.h>\n",
        "include/uapi/linux/types.h": "#include <asm/types.h>\n",
        "include/uapi/asm-generic/types.h": "int generic;\n",
        "include/uapi/asm-generic/kvm.h": "int not_the_generic;\n",
    }
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


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
def test_installed_headers(asm: str, linux: str, tmp_path: Path) -> None:
    make(tmp_path, f"{asm}/asm/kvm.h", f"{linux}/linux/version.h", f"{linux}/linux/kvm.h")
    tree = find(tmp_path, "arm64")
    assert (tree.paths[0] / "asm/kvm.h").is_file()
    assert (tree.paths[-1], tree.version) == (tmp_path / linux, "7.2.12")


def test_a_kernel_tree_is_read_without_make(tmp_path: Path) -> None:
    tree = find(kernel_tree(tmp_path), "arm64")
    assert tree.version == "7.2.12"
    assert set(tree.closure(["linux/kvm.h"])) == {
        "linux/kvm.h",
        "asm/kvm.h",
        "linux/types.h",
        "asm/types.h",
        "asm-generic/types.h",
    }
    assert tree.text("asm/kvm.h") == "#include <linux/types.h>\n"
    assert tree.text("linux/none.h") is None


def test_architectures(tmp_path: Path) -> None:
    assert architectures(kernel_tree(tmp_path)) == ["arm64"]
    (tmp_path / "arch/x86/include/uapi").mkdir(parents=True)
    assert architectures(tmp_path) == ["arm64", "x86_64"]


@pytest.mark.parametrize(
    "names", [(), ("usr/include/linux/version.h", "usr/include/x86_64-linux-gnu/asm/kvm.h")]
)
def test_no_headers_of_this_architecture(names: tuple[str, ...], tmp_path: Path) -> None:
    make(tmp_path, *names)
    with pytest.raises(HeaderError, match=r"holds no kernel headers for arm64: give a kernel tree"):
        find(tmp_path, "arm64")


def test_no_headers_at_all(tmp_path: Path) -> None:
    with pytest.raises(HeaderError, match=f"{tmp_path} holds no kernel headers: give"):
        architectures(tmp_path)


def test_installed_headers_without_a_version(tmp_path: Path) -> None:
    make(tmp_path, "linux/version.h", "linux/kvm.h", "asm/kvm.h")
    (tmp_path / "linux/version.h").write_text("")
    with pytest.raises(HeaderError, match=r"version\.h has no LINUX_VERSION_CODE: give"):
        find(tmp_path, "arm64")


def test_a_tree_without_a_version(tmp_path: Path) -> None:
    (kernel_tree(tmp_path) / "Makefile").write_text("all:\n")
    with pytest.raises(HeaderError, match="Makefile has no kernel version"):
        find(tmp_path, "arm64")


def test_a_tree_without_a_makefile(tmp_path: Path) -> None:
    (kernel_tree(tmp_path) / "Makefile").unlink()
    with pytest.raises(UsageError, match=r"cannot read .*Makefile: No such file"):
        find(tmp_path, "arm64")
