# SPDX-License-Identifier: GPL-2.0-only
"""Find kernels by name."""

import shutil
from pathlib import Path

import pytest

from pyvmm.errors import PyvmmError, UsageError
from pyvmm.lab import host, kernel
from pyvmm.lab.apt import no_progress


@pytest.mark.parametrize(
    ("release", "version", "matches"),
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
def test_release_matches_version(release: str, version: str, matches: bool) -> None:
    assert kernel._matches(release, version) is matches


def test_releases_are_ordered_by_number() -> None:
    assert max(("6.12.95+deb12", "6.12.107+deb13"), key=kernel._order) == "6.12.107+deb13"


@pytest.mark.parametrize("name", ["/none", "lab:", "lab:../up", "lab:a/b", "debain:7.2"])
def test_invalid_name(name: str) -> None:
    with pytest.raises(UsageError):
        kernel.find(name, no_progress)


def test_version_missing_on_the_mirror() -> None:
    with pytest.raises(PyvmmError, match=r"no arm64 kernel 1\.0|cannot reach"):
        kernel.find("debian:1.0", no_progress)


def test_build_tree(emulated: host.Host, tmp_path: Path) -> None:
    image = tmp_path / "arch/arm64/boot/Image"
    image.parent.mkdir(parents=True)
    shutil.copy(emulated.kernel.image, image)
    assert kernel.find(str(tmp_path), no_progress) == kernel.Kernel(str(tmp_path), image)
