# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from pyvmm.errors import UsageError
from pyvmm.trace.scenario import read_scenario


def test_rules_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "kernel.toml"
    path.write_text('inject = ["cap:KVM_CAP_HLT=0", "run:delay=1ms"]')
    assert read_scenario(path) == ["cap:KVM_CAP_HLT=0", "run:delay=1ms"]


def test_none() -> None:
    assert read_scenario(None) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("inject = [", "is no TOML"),
        ("", "there is none"),
        ("inject = [1]", "is no scenario"),
        ("inject = []\nname = 'x'", "it has name"),
    ],
)
def test_another_file_says_why(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_scenario(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_scenario(tmp_path / "none.toml")
