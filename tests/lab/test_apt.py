# SPDX-License-Identifier: GPL-2.0-only
"""Query, download and unpack packages of a real mirror; report errors in one line."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pyvmm.errors import LackingError
from pyvmm.lab import apt, cache, host, kernel
from pyvmm.lab.apt import no_progress
from tests.lab.damage import DAMAGE, replace_by_directory

# apt rejects Debian's signed backports lists as expired: they are older than a second.
EXPIRED = """\
Dir::Etc::parts "/dev/null";
Dir::Etc::main "/dev/null";
Acquire::Max-ValidTime {{ "{label}" "1"; }};
"""


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


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_cache_of_apt(
    arm64: apt.Apt,
    damage: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "pyvmm/apt/arm64"
    shutil.copytree(cache.root() / "apt/arm64/lists", home / "lists")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(apt, "GUEST_RELEASES", ("trixie",))
    copy = apt.Apt("arm64")
    versions = copy.versions("base-files")
    [archive] = copy.fetch("base-files", dependencies=False)
    content = archive.read_bytes()
    [lists] = home.glob("lists/*_Packages*")
    names = ["sources.list", "apt.conf", "fresh"]
    # apt rebuilds its binary caches, but reports a directory in their place.
    names += [] if damage is replace_by_directory else ["pkgcache.bin", "srcpkgcache.bin"]
    for file in (archive, lists, *(home / name for name in names)):
        damage(file)
        assert copy.versions("base-files") == versions
        [archive] = copy.fetch("base-files", dependencies=False)
        assert archive.read_bytes() == content


def _expire(label: str, cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a copy of the package lists, in which those of suites with this label are expired."""
    shutil.copytree(cached / "apt/arm64/lists", tmp_path / "pyvmm/apt/arm64/lists")
    (tmp_path / "apt.conf").write_text(EXPIRED.format(label=label))
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # These do not expire otherwise, or not in a mirror's usual delay.
    monkeypatch.setattr(apt, "GUEST_RELEASES", ("bookworm", "trixie", "trixie-backports"))


def test_expired_suite_is_left_out(
    arm64: apt.Apt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _expire("Debian Backports", cache.root(), tmp_path, monkeypatch)
    steps: dict[str, None] = {}
    partial = apt.Apt("arm64", lambda step, fraction: steps.update({step: None}))
    assert {each.release for each in partial.versions("base-files")} == {"bookworm", "trixie"}
    [warning] = [step for step in steps if "going on without" in step]
    assert "without trixie-backports: Release file" in warning
    assert "is expired" in warning
    # Another process, with these lists.
    later = apt.Apt("arm64")
    [archive] = later.fetch("base-files", dependencies=False)
    assert archive.exists()
    for missing in ("no-such-package", "base-files/trixie-backports"):
        with pytest.raises(LackingError, match=r"; the lists of trixie-backports are missing$"):
            later.fetch(missing)
    with pytest.raises(LackingError, match=r"no arm64 kernel .*trixie-backports are missing"):
        kernel.find("debian", apt.no_progress)


def test_all_suites_expired(
    arm64: apt.Apt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _expire("Debian", cache.root(), tmp_path, monkeypatch)
    monkeypatch.setattr(apt, "GUEST_RELEASES", ("bookworm", "trixie"))
    with pytest.raises(LackingError, match=r"is expired") as raised:
        apt.Apt("arm64").versions("base-files")
    assert "\n" not in str(raised.value)
