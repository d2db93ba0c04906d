# SPDX-License-Identifier: GPL-2.0-only
"""The places that name the version agree."""

import re
from pathlib import Path

import pytest

from pyvmm import __version__

CHECKOUT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("file", "pattern"),
    [("CHANGELOG.md", r"^## (\d\S*),"), ("debian/changelog", r"^pyvmm \((\S+)\)")],
)
def test_newest_entry_is_of_this_version(file: str, pattern: str) -> None:
    path = CHECKOUT / file
    if not path.exists():
        pytest.skip(f"{file} is in the checkout only")
    newest = re.search(pattern, path.read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == __version__
