# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from pyvmm import cli
from pyvmm.errors import Status
from tests.process import exits_with


@pytest.mark.parametrize(
    "argv",
    [
        ("status", "--qemu", "/none"),
        ("clean", "--qemu", "/none"),
        ("clean", "--json"),
        ("setup", "--timeout", "5"),
        ("shell", "--timeout", "5"),
    ],
    ids=" ".join,
)
def test_option_without_effect_is_an_error(
    argv: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # `clean` must not remove the user's
    with exits_with(Status.USAGE):
        cli.main(["lab", *argv])
    assert argv[1] in capfd.readouterr().err
