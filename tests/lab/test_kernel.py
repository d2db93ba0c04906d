# SPDX-License-Identifier: GPL-2.0-only
"""Which kernel a name means."""

from pathlib import Path

import pytest

from pyvmm.errors import PyvmmError, UsageError
from pyvmm.lab import kernel

from .conftest import quiet


@pytest.mark.parametrize(
    ("release", "version", "is_it"),
    [
        ("6.12.95+deb12", "6.12", True),
        ("6.12.95+deb12", "6.12.95", True),
        ("6.12.95+deb12", "6.1", False),
        ("6.12.90+deb12.1", "6.12", True),
        ("6.1.0-47", "6.1", True),
        ("7.3", "7.3", True),
        ("7.2.12+deb13", "", True),
        ("6.12.95+deb12-rt", "6.12", False),
        ("6.12.95+deb12-cloud", "6.12", False),
    ],
)
def test_release_is_of_a_version(release: str, version: str, is_it: bool) -> None:
    assert kernel._matches(release, version) is is_it


def test_newest_is_by_number() -> None:
    assert max(("6.12.95+deb12", "6.12.107+deb13"), key=kernel._order) == "6.12.107+deb13"


@pytest.mark.parametrize("name", ["/none", "lab:", "lab:../up", "lab:a/b", "debain:7.2"])
def test_name_that_means_none(name: str) -> None:
    with pytest.raises(UsageError):
        kernel.find(name, quiet)


def test_version_that_the_mirror_lacks() -> None:
    with pytest.raises(PyvmmError, match=r"no arm64 kernel 1\.0|cannot be reached"):
        kernel.find("debian:1.0", quiet)


def test_build_tree_is_its_image(tmp_path: Path) -> None:
    image = tmp_path / "arch/arm64/boot/Image"
    image.parent.mkdir(parents=True)
    image.touch()
    assert kernel.find(str(tmp_path), quiet) == kernel.Kernel(str(tmp_path), image)
