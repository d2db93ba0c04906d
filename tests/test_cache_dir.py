# SPDX-License-Identifier: GPL-2.0-only
import os
from pathlib import Path

import pytest

from pyvmm.cache_dir import read, root, write


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HOME": "/home/me", "XDG_CACHE_HOME": "/var/big"}, "/var/big/pyvmm"),
        ({"HOME": "/home/me", "XDG_CACHE_HOME": ""}, "/home/me/.cache/pyvmm"),
        ({"HOME": "/home/me"}, "/home/me/.cache/pyvmm"),
    ],
    ids=["set", "empty", "not set"],
)
def test_root(variables: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert root() == Path(place)


def test_content_is_read_back(tmp_path: Path) -> None:
    write(tmp_path / "new/file", b"two\nlines\n")
    assert read(tmp_path / "new/file") == b"two\nlines\n"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


@pytest.mark.parametrize("at", [0, 64, 65, -1])
def test_a_changed_byte_is_damage(tmp_path: Path, at: int) -> None:
    write(tmp_path / "file", b"content")
    stored = bytearray((tmp_path / "file").read_bytes())
    stored[at] ^= 1
    (tmp_path / "file").write_bytes(stored)
    assert read(tmp_path / "file") is None


@pytest.mark.parametrize("size", [0, 10, 64, 65, 70])
def test_a_truncated_file_is_damaged(tmp_path: Path, size: int) -> None:
    write(tmp_path / "file", b"content")
    os.truncate(tmp_path / "file", size)
    assert read(tmp_path / "file") is None


def test_a_missing_file_has_no_content(tmp_path: Path) -> None:
    assert read(tmp_path / "file") is None
