# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from pyvmm.errors import LackingError
from pyvmm.linux.built_in_guest import make_initrd


@pytest.fixture
def busybox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that is found as busybox, without content."""
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "busybox"
    path.touch(0o755)
    return path


def test_busybox_and_init_are_in_the_archive(busybox: Path, tmp_path: Path) -> None:
    busybox.write_bytes(b"a static program")
    initrd = make_initrd(tmp_path / "Image", b"#!/bin/sh\n")
    assert b"a static program" in initrd
    assert b"init\0" in initrd
    assert b"#!/bin/sh\n" in initrd


def test_modules_beside_the_image_come_first(busybox: Path, tmp_path: Path) -> None:
    busybox.write_bytes(b"a static program")
    kernel = tmp_path / "kernel"
    kernel.mkdir()
    (kernel / "modules.cpio").write_bytes(b"modules")
    (tmp_path / "Image").symlink_to(kernel / "Image")
    assert make_initrd(tmp_path / "Image").startswith(b"modules")


@pytest.mark.parametrize("content", [b"", b"\x7fELF /lib/ld-linux-aarch64.so.1"])
def test_a_busybox_that_is_not_static(busybox: Path, content: bytes) -> None:
    busybox.write_bytes(content)
    with pytest.raises(LackingError, match="install busybox-static, or pass --initrd"):
        make_initrd(Path("Image"))


def test_no_busybox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LackingError, match="needs a static busybox"):
        make_initrd(Path("Image"))
