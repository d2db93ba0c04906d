# SPDX-License-Identifier: GPL-2.0-only
"""What cannot be built, and what the fragment asks for. (A build itself is `lab setup`'s.)"""

from pathlib import Path

import pytest

from pyvmm.errors import UsageError
from pyvmm.lab import build

from .conftest import quiet


def test_directory_that_is_no_kernel_source(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no kernel source"):
        build.build("lab:mine", quiet, source=tmp_path)


@pytest.mark.parametrize("name", ["debian:7.2", "lab:", "lab:a/b", "/boot/Image"])
def test_name_that_cannot_be_built(name: str) -> None:
    with pytest.raises(UsageError, match="names no kernel that can be built"):
        build.build(name, quiet)


def test_fragment_names_each_option_once() -> None:
    lines = build.FRAGMENT.read_text().splitlines()
    options = [line.split("=")[0] for line in lines if line and not line.startswith("#")]
    assert all(option.startswith("CONFIG_") for option in options)
    assert len(options) == len(set(options))
