# SPDX-License-Identifier: GPL-2.0-only
"""Select a QEMU by its version, and its arguments."""

from pathlib import Path

import pytest

from pyvmm.errors import LackingError, UsageError
from pyvmm.lab import qemu
from pyvmm.lab.apt import no_progress
from pyvmm.lab.qemu import EmulatedMachine, parse_size


def _program(path: Path, output: str) -> str:
    path.write_text(f"#!/bin/sh\necho '{output}'\n")
    path.chmod(0o755)
    return str(path)


def test_old_version_is_rejected(tmp_path: Path) -> None:
    old = _program(tmp_path / "qemu", "QEMU emulator version 7.2.19 (Debian 1:7.2+dfsg-7)")
    with pytest.raises(
        LackingError, match=r"QEMU 7\.2 and the lab needs 10\.0.*bookworm-backports"
    ):
        qemu.find(no_progress, old)


def test_other_program(tmp_path: Path) -> None:
    with pytest.raises(LackingError, match="prints no QEMU version"):
        qemu.find(no_progress, _program(tmp_path / "qemu", "hello"))


@pytest.mark.parametrize(
    ("text", "size"), [("512M", 512 << 20), ("2g", 2 << 30), ("008M", 8 << 20)]
)
def test_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "0M", "512", "5K", "-1G", "1.5G", "9" * 5000 + "M"])
def test_invalid_size(text: str) -> None:
    with pytest.raises(UsageError, match="invalid size"):
        parse_size(text)


def test_missing_program() -> None:
    with pytest.raises(UsageError, match="program /none not found"):
        qemu.find(no_progress, "/none")


def test_old_version_on_path_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path / qemu.PROGRAM, "QEMU emulator version 7.2.19")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert qemu.find(no_progress).version >= qemu.OLDEST


@pytest.mark.parametrize(
    ("cpu", "model", "machine_option"), [("max", "max", False), ("max+mte", "max", True)]
)
def test_memory_tags(cpu: str, model: str, machine_option: bool) -> None:
    argv = EmulatedMachine(cpu=cpu).arguments()
    assert argv[argv.index("-cpu") + 1] == model
    assert argv[argv.index("-machine") + 1].endswith(",mte=on") is machine_option
