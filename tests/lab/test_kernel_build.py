# SPDX-License-Identifier: GPL-2.0-only
"""Reject invalid builds, and rebuild for a changed configuration; builds are not tested."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from pyvmm.errors import LackingError, UsageError
from pyvmm.lab import kernel, kernel_build, kernel_config
from pyvmm.lab.apt import no_progress


def test_directory_without_kernel_source(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a kernel source tree"):
        kernel_build.build("lab:mine", no_progress, source=tmp_path)


@pytest.mark.parametrize("name", ["debian:7.2", "lab:", "lab:a/b", "/boot/Image"])
def test_invalid_name(name: str) -> None:
    with pytest.raises(UsageError, match="cannot build a kernel named"):
        kernel_build.build(name, no_progress)


@pytest.mark.parametrize(
    ("name", "fragment", "is_current"),
    [
        ("lab", kernel_config.FRAGMENT.read_text(), True),
        ("lab", f"# another comment\n{kernel_config.FRAGMENT.read_text()}", True),
        ("lab", "# an older one", False),
        ("lab", None, False),
        ("lab:7.2", "# an older one", False),
        ("lab:16k", kernel_config.FRAGMENT.read_text(), False),
        ("lab:16k", kernel_config.variant("lab:16k"), True),
        ("lab:mine", None, True),  # your own source or patch
    ],
)
def test_kernel_is_rebuilt_for_another_fragment(
    name: str,
    fragment: str | None,
    is_current: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")  # no compiler
    place = kernel.store() / kernel.directory(name)
    place.mkdir(parents=True)
    if fragment is not None:
        (place / kernel_config.FRAGMENT.name).write_text(fragment)
    with nullcontext() if is_current else pytest.raises(LackingError):
        kernel_build.build(name, no_progress)


def test_a_kernel_with_other_options_is_rebuilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")  # no compiler
    place = kernel.store() / "lab-mine"
    place.mkdir(parents=True)
    fragment = kernel_config.variant("lab:mine", ["CONFIG_LOCKDEP=y"])
    (place / kernel_config.FRAGMENT.name).write_text(fragment)
    kernel_build.build("lab:mine", no_progress, changes=["CONFIG_LOCKDEP=y"])
    with pytest.raises(LackingError):
        kernel_build.build("lab:mine", no_progress, changes=["CONFIG_KASAN=y"])
