# SPDX-License-Identifier: GPL-2.0-only
"""Headers are read once and cached by their content."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyvmm import cache_dir
from pyvmm.errors import LackingError
from pyvmm.uapi import header_set
from pyvmm.uapi.builtin import builtin
from pyvmm.uapi.header_set import HeaderSet, cache_file, read, read_cached, save
from pyvmm.uapi.model import HeaderError

HEADERS = {
    "linux/version.h": "#define LINUX_VERSION_CODE 459276",
    "linux/kvm.h": "#include <linux/types.h>\n#define KVM_CAP_FOO 1\nstruct foo { __u32 a[2]; };",
    "linux/types.h": "#include <asm/types.h>",
    "linux/unread.h": "",
    "asm/types.h": "typedef unsigned int __u32;",
    "asm/kvm.h": "",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/pyvmm/header-sets"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, text in HEADERS.items():
        (tmp_path / "headers" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "headers" / name).write_text(text)
    return tmp_path / "headers"


@pytest.fixture
def no_libclang(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make importing libclang fail."""
    monkeypatch.delitem(sys.modules, "pyvmm.uapi.headers", raising=False)
    monkeypatch.setitem(sys.modules, "clang", None)
    yield
    sys.modules.pop("pyvmm.uapi.headers", None)


def test_read(directory: Path, libclang: None) -> None:
    found = read(directory, "arm64")
    assert (found.version, found.architecture, list(found.headers)) == ("7.2.12", "arm64", ["kvm"])
    assert found.all.constants["KVM_CAP_FOO"].value == 1
    assert found.all.structs["foo"].size == 8


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_a_saved_set_is_read_back(architecture: str, tmp_path: Path) -> None:
    whole = builtin(architecture)
    save(whole, tmp_path / "set.json")
    assert read(tmp_path / "set.json", architecture) == whole


def test_the_same_headers_in_another_directory_are_cached(
    directory: Path, libclang: None, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(directory, tmp_path / "copy"))
    (copy / "linux/unread.h").write_text("#error not read")
    assert cache_file(copy, "arm64") == cache_file(directory, "arm64")
    assert cache_file(copy, "x86_64") != cache_file(directory, "arm64")


@pytest.mark.parametrize("name", ["linux/version.h", "linux/kvm.h", "asm/types.h"])
def test_changed_headers_are_read(directory: Path, libclang: None, name: str) -> None:
    before = cache_file(directory, "arm64")
    (directory / name).write_text(HEADERS[name].replace("459276", "459277") + "\n")
    assert cache_file(directory, "arm64") != before


def test_a_cached_set_needs_no_libclang(
    directory: Path, libclang: None, request: pytest.FixtureRequest
) -> None:
    first = read(directory, "arm64")
    request.getfixturevalue("no_libclang")
    assert read(directory, "arm64") == first
    assert read_cached("arm64") == [first]
    assert read_cached("x86_64") == []


def test_a_damaged_set_is_read_again(directory: Path, libclang: None) -> None:
    first = read(directory, "arm64")
    path = cache_file(directory, "arm64")
    text = path.read_text()
    path.write_text(text.replace("KVM_CAP_FOO", "KVM_CAP_FOP"))
    with pytest.raises(HeaderError, match="remove it"):
        read(path, "arm64")
    assert read_cached("arm64") == []
    assert read(directory, "arm64") == first
    assert path.read_text() == text


def test_an_uncached_set_needs_libclang(directory: Path, no_libclang: None) -> None:
    with pytest.raises(LackingError, match=r"pip install 'pyvmm\[headers\]'"):
        read(directory, "arm64")


def test_a_header_that_does_not_compile_is_not_cached(
    directory: Path, libclang: None, cache: Path
) -> None:
    (directory / "linux/kvm.h").write_text("struct foo { __u32 a;")
    with pytest.raises(HeaderError, match=r"linux/kvm\.h in .* does not compile for arm64: "):
        read(directory, "arm64")
    assert list(cache.glob("*")) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "[" * 100_000,
        '{"version": 1, "headers": []}',
        '{"version": "7.2.1", "architecture": "arm\\n", "headers": {}}',
        '{"version": 1, "headers": {"kvm": 3}}',
        "\0",
    ],
)
def test_a_file_that_is_no_header_set(text: str, tmp_path: Path) -> None:
    cache_dir.write(tmp_path / "file", text.encode())
    with pytest.raises(HeaderError, match=r"file is not a header set of pyvmm"):
        read(tmp_path / "file", "arm64")


def test_a_file_of_another_architecture(tmp_path: Path) -> None:
    save(builtin("x86_64"), tmp_path / "set.json")
    with pytest.raises(HeaderError, match="is for x86_64, not for arm64"):
        read(tmp_path / "set.json", "arm64")


def test_a_cache_that_cannot_be_written(
    directory: Path, libclang: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(LackingError, match=r"cannot be written .*XDG_CACHE_HOME"):
        read(directory, "arm64")


def test_the_oldest_sets_are_deleted(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_set, "_MAX_CACHED", 2)
    for number in range(4):
        save(HeaderSet("7.2.12", "arm64", {}), cache / f"arm64-{number}.json")
    assert len(read_cached("arm64")) == 2
    assert (cache / "arm64-3.json").exists()
