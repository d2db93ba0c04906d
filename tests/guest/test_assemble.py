# SPDX-License-Identifier: GPL-2.0-only
import shutil
from pathlib import Path

import pytest

from pyvmm import cache_dir
from pyvmm.errors import LackingError, PyvmmError, UsageError
from pyvmm.guest.assemble import assemble

ARCHS = ("arm64", "x86_64")
NOP = {"arm64": bytes.fromhex("1f2003d5"), "x86_64": b"\x90"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pyvmm" / "payloads"


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return each architecture whose binutils are installed; skip the others."""
    arch = str(request.param)
    try:
        assemble(write(tmp_path, "\tnop\n", "probe.s"), arch)
    except LackingError as error:
        pytest.skip(str(error))
    return arch


def write(directory: Path, text: str, name: str = "payload.s") -> Path:
    source = directory / name
    source.write_text(text)
    return source


@pytest.mark.parametrize(
    ("text", "tail"),
    [
        ("\tnop\n", b""),
        ("\tnop\n\t.data\n\t.byte 1, 2\n", b"\1\2"),
        ("\tnop\n\t.bss\n\t.skip 2\n", b"\0\0"),
        ('\tnop\n\t.section .rodata.str,"a"\n\t.ascii "hi"\n', b"hi"),
    ],
)
def test_the_binary_has_all_sections(tmp_path: Path, arch: str, text: str, tail: bytes) -> None:
    code = assemble(write(tmp_path, text), arch)
    assert code.startswith(NOP[arch])
    assert code.endswith(tail)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\tnop\n\tnonsense\n", "payload.s:2: "),
        ("\tnop\n\n\tb missing\n", "payload.s:3: undefined reference to `missing'"),
        ('\t.include "missing.s"\n', "payload.s:1: "),
        ("\tnop\nhere:\t.quad here\n", "absolute address of a label"),
        ("\t.byte 0x1ff\n", "payload.s:1: "),  # warnings are errors
    ],
)
def test_an_error_is_one_line(tmp_path: Path, arch: str, text: str, message: str) -> None:
    text = text.replace("\tb ", "\tb " if arch == "arm64" else "\tjmp ")
    with pytest.raises(PyvmmError) as error:
        assemble(write(tmp_path, text), arch)
    assert message in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_source_is_assembled_once(tmp_path: Path, arch: str, cache: Path) -> None:
    source = write(tmp_path, "\tnop\n\tnop\n")
    code = assemble(source, arch)
    [cached] = [path for path in cache.iterdir() if cache_dir.read(path) == code]
    cache_dir.write(cached, b"from the cache")
    assert assemble(source, arch) == b"from the cache"
    assert assemble(write(tmp_path, "\tnop\n\tnop\n\tnop\n"), arch) == 3 * NOP[arch]


@pytest.mark.parametrize("damage", [b"", b"\0", bytes(200)], ids=["empty", "short", "zeros"])
def test_a_damaged_binary_is_assembled_again(
    tmp_path: Path, arch: str, cache: Path, damage: bytes
) -> None:
    source = write(tmp_path, "\tnop\n\tnop\n")
    code = assemble(source, arch)
    [cached] = [path for path in cache.iterdir() if cache_dir.read(path) == code]
    cached.write_bytes(damage)
    assert assemble(source, arch) == cache_dir.read(cached) == code


def test_a_source_with_includes_is_not_cached(tmp_path: Path, arch: str) -> None:
    source = write(tmp_path, '\t.include "part.inc"\n')
    write(tmp_path, "\tnop\n", "part.inc")
    assert assemble(source, arch) == NOP[arch]
    write(tmp_path, "\tnop\n\tnop\n", "part.inc")
    assert assemble(source, arch) == 2 * NOP[arch]


def test_an_unwritable_cache_is_ignored(
    tmp_path: Path, arch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(write(tmp_path, "", "a-file")))
    assert assemble(write(tmp_path, "\tnop\n"), arch) == NOP[arch]


def test_a_missing_source_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*nowhere\.s: No such file"):
        assemble(tmp_path / "nowhere.s", "arm64")


@pytest.mark.parametrize(
    ("arch", "package"),
    [("arm64", "binutils-aarch64-linux-gnu"), ("x86_64", "binutils-x86-64-linux-gnu")],
)
def test_missing_binutils_name_their_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arch: str, package: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("as") is None
    with pytest.raises(LackingError, match=f"apt install {package}"):
        assemble(write(tmp_path, "\tnop\n"), arch)
