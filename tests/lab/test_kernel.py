# SPDX-License-Identifier: GPL-2.0-only
"""Find kernels by name."""

import os
import shutil
from pathlib import Path

import pytest

from pyvmm import cli
from pyvmm.errors import LackingError, PyvmmError, UsageError
from pyvmm.lab import cache, host, kernel, kernel_config, kernel_modules
from pyvmm.lab.apt import Apt, no_progress
from tests.json_documents import valid


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
        ("6.12.95+deb12-16k", "6.12", False),
        ("6.12.95+deb12-16k", "6.12-16k", True),
        ("6.12.95+deb12-16k", "6.12.95-16k", True),
        ("6.12.95+deb12-16k", "6.1-16k", False),
        ("6.12.95+deb12", "6.12-16k", False),
        ("6.12.95+deb12-16k", "", False),
    ],
)
def test_release_matches_version(release: str, version: str, matches: bool) -> None:
    assert kernel._matches(release, version) is matches


def test_releases_are_ordered_by_number() -> None:
    assert max(("6.12.95+deb12", "6.12.107+deb13"), key=kernel._order) == "6.12.107+deb13"
    assert max(("7.3-16k", "7.3.4+deb13-16k"), key=kernel._order) == "7.3.4+deb13-16k"


@pytest.mark.parametrize("name", ["/none", "lab:", "lab:../up", "lab:a/b", "debain:7.2"])
def test_invalid_name(name: str) -> None:
    with pytest.raises(UsageError):
        kernel.find(name, no_progress)


def test_version_missing_on_the_mirror() -> None:
    with pytest.raises(PyvmmError, match=r"no arm64 kernel 1\.0|cannot reach"):
        kernel.find("debian:1.0", no_progress)


@pytest.fixture(scope="module")
def offered() -> tuple[set[str], set[str]]:
    try:
        return kernel._offered(Apt("arm64"))
    except LackingError as error:
        pytest.skip(str(error))


def test_flavour_with_16k_pages_is_offered(offered: tuple[set[str], set[str]]) -> None:
    complete, _ = offered
    assert any(kernel._matches(release, "6.12-16k") for release in complete)
    assert any(kernel._matches(release, "6.12") for release in complete)


def test_list_of_kernels(
    offered: tuple[set[str], set[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    complete, without_modules = offered
    assert cli.main(["lab", "kernels", "--json"]) == 0
    kernels = {each["name"]: each for each in valid(capsys.readouterr().out)["kernels"]}
    assert list(kernels)[:3] == ["lab", "lab:16k", "lab:64k"]
    assert kernels["lab:64k"]["page_size"] == 65536
    of_debian = {name.removeprefix("debian:"): each for name, each in kernels.items()}
    for name, each in of_debian.items():
        assert name.startswith("lab") or name in (complete if each["modules"] else without_modules)
    assert {each["page_size"] for name, each in of_debian.items() if "-16k" in name} == {16384}


@pytest.mark.parametrize("flavour", ["", "-16k"])
def test_version_without_modules(offered: tuple[set[str], set[str]], flavour: str) -> None:
    works, fails = (kernel._series(each, flavour) for each in offered)
    left = [version for version in fails if version not in works]
    if not left:
        pytest.skip("the mirror has the modules of every series: no version to reject")
    with pytest.raises(LackingError) as raised:
        kernel.find(f"debian:{left[0]}", no_progress)
    assert str(raised.value) == (
        f"Debian's mirror has no modules of the arm64 kernel {left[0]}: "
        f"pass one of debian:{', debian:'.join(works)}"
    )
    assert not list(kernel.store().glob(f"debian-{left[0].removesuffix(flavour)}*"))


def test_build_tree(emulated: host.Host, tmp_path: Path) -> None:
    image = tmp_path / "arch/arm64/boot/Image"
    image.parent.mkdir(parents=True)
    shutil.copy(emulated.kernel.image, image)
    assert kernel.find(str(tmp_path), no_progress) == kernel.Kernel(str(tmp_path), image)


@pytest.mark.parametrize("file", ["Image", "kernel.config"])
@pytest.mark.parametrize("size", [0, 1000])
def test_damaged_lab_kernel(
    emulated: host.Host, file: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with cache.create(kernel.store() / "lab") as partial:
        assert partial is not None
        partial.mkdir()
        shutil.copy(emulated.kernel.image, partial / "Image")
        shutil.copy(kernel_config.FRAGMENT, partial)
    assert kernel.find("lab", no_progress)
    os.truncate(kernel.store() / "lab" / file, size)
    with pytest.raises(LackingError, match="the kernel lab in the cache is damaged: build it"):
        kernel.find("lab", no_progress)
    with pytest.raises(LackingError, match="the kernel lab in the cache is damaged: build it"):
        kernel.find(None, no_progress)


def _cache_debian_kernel(modules: str | None) -> None:
    with cache.create(kernel.store() / "debian-6.12.1") as partial:
        assert partial is not None
        partial.mkdir()
        (partial / "Image").write_bytes(bytes(1000))
        if modules:
            (partial / kernel._MODULES).write_text(modules)


def test_damaged_debian_kernel_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")  # no apt
    _cache_debian_kernel("\n".join((*kernel_modules.WANTED, "one_more")))
    assert kernel.find("debian:6.12", no_progress)
    os.truncate(kernel.store() / "debian-6.12.1/Image", 500)
    with pytest.raises(LackingError, match="apt-get is not on PATH"):
        kernel.find("debian:6.12", no_progress)


@pytest.mark.parametrize("modules", [None, "virtio_blk"])
def test_debian_kernel_with_the_modules_of_an_earlier_version_is_not_used(
    modules: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")  # no apt
    _cache_debian_kernel(modules)
    with pytest.raises(LackingError, match="apt-get is not on PATH"):
        kernel.find("debian:6.12", no_progress)
