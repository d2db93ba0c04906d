# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from pyvmm.cache_dir import root


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
