# SPDX-License-Identifier: GPL-2.0-only
"""Which QEMU is taken, and which is refused."""

from pathlib import Path

import pytest

from pyvmm.errors import LackingError, UsageError
from pyvmm.lab import qemu

from .conftest import quiet


def _program(place: Path, says: str) -> str:
    place.write_text(f"#!/bin/sh\necho '{says}'\n")
    place.chmod(0o755)
    return str(place)


def test_too_old_one_is_refused_and_says_how_to_get_another(tmp_path: Path) -> None:
    old = _program(tmp_path / "qemu", "QEMU emulator version 7.2.19 (Debian 1:7.2+dfsg-7)")
    with pytest.raises(
        LackingError, match=r"QEMU 7\.2 and the lab needs 10\.0.*bookworm-backports"
    ):
        qemu.find(quiet, old)


def test_program_that_is_no_qemu(tmp_path: Path) -> None:
    with pytest.raises(LackingError, match="does not say its version"):
        qemu.find(quiet, _program(tmp_path / "qemu", "hello"))


def test_program_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="there is no program /none"):
        qemu.find(quiet, "/none")


def test_old_one_on_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path / qemu.PROGRAM, "QEMU emulator version 7.2.19")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert qemu.find(quiet).version >= qemu.OLDEST
