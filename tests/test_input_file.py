# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from pyvmm.errors import UsageError
from pyvmm.input_file import LIMIT, read_bytes


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"text")
    assert read_bytes(path) == b"text"


def test_the_largest_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(LIMIT))
    assert len(read_bytes(path)) == LIMIT


def test_a_larger_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(LIMIT + 1))
    with pytest.raises(UsageError, match="it is larger than 16 MiB"):
        read_bytes(path)


def test_a_device_without_an_end() -> None:
    with pytest.raises(UsageError, match="cannot read /dev/zero: it is larger than 16 MiB"):
        read_bytes(Path("/dev/zero"))


def test_a_missing_file() -> None:
    with pytest.raises(UsageError, match="cannot read /no/such: No such file or directory"):
        read_bytes(Path("/no/such"))
