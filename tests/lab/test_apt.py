# SPDX-License-Identifier: GPL-2.0-only
"""Query, download and unpack packages of a real mirror; report errors in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyvmm.errors import LackingError
from pyvmm.lab import apt, host
from pyvmm.lab.apt import no_progress


@pytest.fixture
def arm64() -> apt.Apt:
    try:
        offered = apt.Apt("arm64", no_progress)
        offered.versions("base-files")
    except LackingError as error:
        pytest.skip(str(error))
    return offered


def test_versions_have_their_release(arm64: apt.Apt) -> None:
    assert {"bookworm", "trixie", "sid"} <= {each.release for each in arm64.versions("base-files")}


def test_missing_package(arm64: apt.Apt) -> None:
    assert arm64.versions("no-such-package") == []
    with pytest.raises(LackingError, match="no-such-package"):
        arm64.fetch("no-such-package")


def test_fetch_without_dependencies_and_unpack(arm64: apt.Apt, tmp_path: Path) -> None:
    [archive] = arm64.fetch("base-files/trixie", dependencies=False)
    apt.unpack([archive], tmp_path / "tree")
    assert (tmp_path / "tree/etc/debian_version").read_text().startswith("13")
    assert (tmp_path / "tree/bin").is_symlink()


def test_damaged_archive(tmp_path: Path) -> None:
    (tmp_path / "bad.deb").write_bytes(b"not an archive")
    with pytest.raises(LackingError, match=r"cannot unpack .*bad\.deb"):
        apt.unpack([tmp_path / "bad.deb"], tmp_path / "tree")


def test_unreachable_mirror_is_one_line_and_leaves_no_tree(tmp_path: Path) -> None:
    # Nothing listens on port 9 (discard).
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
    [message] = [line for line in done.stderr.splitlines() if "error:" in line]
    assert "cannot reach the Debian mirror" in message
    assert not list(tmp_path.glob("pyvmm/trees/[!.]*"))
