# SPDX-License-Identifier: GPL-2.0-only
"""What cannot be built, and what the fragment asks for. (A build itself is `lab setup`'s.)"""

from contextlib import nullcontext
from pathlib import Path

import pytest

from pyvmm.errors import LackingError, UsageError
from pyvmm.lab import kernel, kernel_build

from .conftest import quiet


def test_directory_that_is_no_kernel_source(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no kernel source"):
        kernel_build.build("lab:mine", quiet, source=tmp_path)


@pytest.mark.parametrize("name", ["debian:7.2", "lab:", "lab:a/b", "/boot/Image"])
def test_name_that_cannot_be_built(name: str) -> None:
    with pytest.raises(UsageError, match="names no kernel that can be built"):
        kernel_build.build(name, quiet)


@pytest.mark.parametrize(
    ("name", "fragment", "stands"),
    [
        ("lab", kernel_build.FRAGMENT.read_text(), True),
        ("lab", "# an older one", False),
        ("lab", None, False),
        ("lab:7.2", "# an older one", False),
        ("lab:mine", None, True),  # whatever it was made of: a source of one's own, or a patch
    ],
)
def test_what_is_built_stands_while_the_fragment_does(
    name: str, fragment: str | None, stands: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")  # nothing can be built
    place = kernel.store() / kernel.directory(name)
    place.mkdir(parents=True)
    if fragment is not None:
        (place / kernel_build.FRAGMENT.name).write_text(fragment)
    with nullcontext() if stands else pytest.raises(LackingError):
        kernel_build.build(name, quiet)


def test_fragment_names_each_option_once() -> None:
    lines = kernel_build.FRAGMENT.read_text().splitlines()
    options = [line.split("=")[0] for line in lines if line and not line.startswith("#")]
    assert all(option.startswith("CONFIG_") for option in options)
    assert len(options) == len(set(options))
