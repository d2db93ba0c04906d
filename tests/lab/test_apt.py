# SPDX-License-Identifier: GPL-2.0-only
"""The private apt: what the mirror offers, what unpacking makes, and what a bad mirror says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyvmm.errors import LackingError
from pyvmm.lab import apt, host

from .conftest import quiet


@pytest.fixture
def arm64() -> apt.Apt:
    try:
        offered = apt.Apt("arm64", quiet)
        offered.versions("base-files")
    except LackingError as error:
        pytest.skip(str(error))
    return offered


def test_versions_say_the_release_that_offers_them(arm64: apt.Apt) -> None:
    assert {"bookworm", "trixie", "sid"} <= {each.release for each in arm64.versions("base-files")}


def test_package_that_there_is_not(arm64: apt.Apt) -> None:
    assert arm64.versions("no-such-package") == []
    with pytest.raises(LackingError, match="no-such-package"):
        arm64.fetch("no-such-package")


def test_package_is_fetched_and_unpacked_with_nothing_else(arm64: apt.Apt, tmp_path: Path) -> None:
    [archive] = arm64.fetch("base-files/trixie", dependencies=False)
    apt.unpack([archive], tmp_path / "tree")
    assert (tmp_path / "tree/etc/debian_version").read_text().startswith("13")
    assert (tmp_path / "tree/bin").is_symlink()


def test_damaged_archive(tmp_path: Path) -> None:
    (tmp_path / "bad.deb").write_bytes(b"not an archive")
    with pytest.raises(LackingError, match=r"bad\.deb does not unpack"):
        apt.unpack([tmp_path / "bad.deb"], tmp_path / "tree")


def test_no_network_is_one_line_and_nothing_to_trust(tmp_path: Path) -> None:
    # Port 9 is "discard", and nothing listens there.
    unreachable = {
        "XDG_CACHE_HOME": str(tmp_path),
        apt.MIRROR_VARIABLE: "http://127.0.0.1:9/debian",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pyvmm", "lab", "run", "--", "caps"],
        cwd=host.CHECKOUT,
        env=os.environ | unreachable,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    [said] = [line for line in done.stderr.splitlines() if "error:" in line]
    assert "cannot be reached" in said
    assert not list(tmp_path.glob("pyvmm/trees/[!.]*"))
