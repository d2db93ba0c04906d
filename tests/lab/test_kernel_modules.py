# SPDX-License-Identifier: GPL-2.0-only
"""Select the modules of a distribution kernel and order them by dependency."""

import lzma
from pathlib import Path

import pytest

from pyvmm.errors import LackingError
from pyvmm.lab import kernel_modules


def _module(*depends: str) -> bytes:
    return b"\x7fELF\0license=GPL\0depends=" + ",".join(depends).encode() + b"\0name=it\0"


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (_module(), []),
        (_module("netfs"), ["netfs"]),
        (_module("vfio-pci-core", "irqbypass"), ["vfio_pci_core", "irqbypass"]),
        (b"no module", []),
    ],
)
def test_dependencies(module: bytes, names: list[str]) -> None:
    assert kernel_modules.dependencies(module) == names


def test_each_module_follows_its_dependencies(tmp_path: Path) -> None:
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel/9p.ko.xz").write_bytes(lzma.compress(_module("netfs", "9pnet")))
    (tmp_path / "kernel/netfs.ko").write_bytes(_module())
    (tmp_path / "kernel/9pnet.ko").write_bytes(_module("netfs", "is-built-in"))
    (tmp_path / "kernel/unwanted.ko").write_bytes(_module())
    archive = kernel_modules.archive(tmp_path)
    assert b"netfs.ko\n9pnet.ko\n9p.ko\n" in archive
    assert b"unwanted" not in archive


def test_kernel_without_modules(tmp_path: Path) -> None:
    (tmp_path / "7.1-arm64/kernel").mkdir(parents=True)
    with pytest.raises(LackingError, match=r"^the kernel 7\.1-arm64 has no modules"):
        kernel_modules.archive(tmp_path / "7.1-arm64")
