# SPDX-License-Identifier: GPL-2.0-only
"""Find kernel headers in the cache or on the mirror."""

from pathlib import Path

import pytest

from pyvmm.errors import LackingError, UsageError
from pyvmm.lab import kernel_headers


@pytest.mark.parametrize(
    ("version", "found"),
    [("6.1", "6.1.176-1"), ("6.12", "6.12.5-1"), ("7.2.12", "7.2.12-1~bpo13+1")],
)
def test_cached_version(
    version: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")  # no apt
    store = tmp_path / "pyvmm/headers"
    for name in ("6.1.176-1", "6.12.5-1", "7.2.12-1~bpo13+1"):
        (store / name).mkdir(parents=True)
    assert kernel_headers.fetch(version).name == found


def test_damaged_headers_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    header = tmp_path / "pyvmm/headers/6.1.176-1/kvm.h"
    header.parent.mkdir(parents=True)
    header.write_text("#define KVM_API_VERSION 12")
    assert kernel_headers.fetch("6.1") == header.parent
    header.write_text("#define KVM_API_VERSION 13")
    with pytest.raises(LackingError, match="apt-get is not on PATH"):
        kernel_headers.fetch("6.1")


@pytest.mark.parametrize("version", ["7.0", "6", "7.2.1"])
def test_other_versions_need_the_mirror(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    (tmp_path / "pyvmm/headers/7.2.12-1").mkdir(parents=True)
    (tmp_path / "pyvmm/headers/.lock-7.0-1").mkdir()
    with pytest.raises(LackingError, match="apt-get is not on PATH"):
        kernel_headers.fetch(version)


def test_version_missing_on_the_mirror() -> None:
    try:
        with pytest.raises(UsageError, match=r"no linux-libc-dev 2\.6: pass .*6\.12"):
            kernel_headers.fetch("2.6")
    except LackingError as error:
        pytest.skip(f"needs a Debian mirror: {error}")
