# SPDX-License-Identifier: GPL-2.0-only
"""A stock kernel's modules: which are taken, and in which order."""

import lzma
from pathlib import Path

import pytest

from pyvmm.lab import kernel_modules


def _module(*depends: str) -> bytes:
    return b"\x7fELF\0license=GPL\0depends=" + ",".join(depends).encode() + b"\0name=it\0"


@pytest.mark.parametrize(
    ("module", "needs"),
    [
        (_module(), []),
        (_module("netfs"), ["netfs"]),
        (_module("vfio-pci-core", "irqbypass"), ["vfio_pci_core", "irqbypass"]),
        (b"no module", []),
    ],
)
def test_needs(module: bytes, needs: list[str]) -> None:
    assert kernel_modules.dependencies(module) == needs


def test_each_module_comes_after_what_it_needs_and_once(tmp_path: Path) -> None:
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel/9p.ko.xz").write_bytes(lzma.compress(_module("netfs", "9pnet")))
    (tmp_path / "kernel/netfs.ko").write_bytes(_module())
    (tmp_path / "kernel/9pnet.ko").write_bytes(_module("netfs", "is-built-in"))
    (tmp_path / "kernel/unwanted.ko").write_bytes(_module())
    archive = kernel_modules.archive(tmp_path)
    assert b"netfs.ko\n9pnet.ko\n9p.ko\n" in archive
    assert b"unwanted" not in archive
