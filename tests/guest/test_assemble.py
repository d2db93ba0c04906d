# SPDX-License-Identifier: GPL-2.0-only
import shutil
from pathlib import Path

import pytest

from pyvmm.errors import LackingError, PyvmmError, UsageError
from pyvmm.guest.assemble import assemble

ARCHS = ("arm64", "x86_64")
NOP = {"arm64": bytes.fromhex("1f2003d5"), "x86_64": b"\x90"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pyvmm" / "guest"


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each architecture whose binutils are here."""
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
def test_all_sections_end_up_in_one_piece(
    tmp_path: Path, arch: str, text: str, tail: bytes
) -> None:
    code = assemble(write(tmp_path, text), arch)
    assert code.startswith(NOP[arch])
    assert code.endswith(tail)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\tnop\n\tnonsense\n", "payload.s:2: "),
        ("\tnop\n\n\tb missing\n", "payload.s:3: undefined reference to `missing'"),
        ('\t.include "missing.s"\n', "payload.s:1: "),
        ("\tnop\nhere:\t.quad here\n", "absolute address of a label"),
        ("\t.byte 0x1ff\n", "payload.s:1: "),  # a warning is a mistake too
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arch: str, text: str, complaint: str) -> None:
    text = text.replace("\tb ", "\tb " if arch == "arm64" else "\tjmp ")
    with pytest.raises(PyvmmError) as mistake:
        assemble(write(tmp_path, text), arch)
    assert complaint in str(mistake.value)
    assert str(tmp_path) in str(mistake.value)
    assert "\n" not in str(mistake.value)


@pytest.mark.parametrize("width", ["16", "32"])
def test_segments_make_addresses_from_0_right(tmp_path: Path, width: str) -> None:
    source = write(tmp_path, f"\t.code{width}\n\tnop\nhere:\t.long here\n")
    try:
        assert assemble(source, "x86_64") == b"\x90\1\0\0\0"
    except LackingError as error:
        pytest.skip(str(error))


def test_the_same_source_is_assembled_once(tmp_path: Path, arch: str, cache: Path) -> None:
    source = write(tmp_path, "\tnop\n\tnop\n")
    code = assemble(source, arch)
    [cached] = [path for path in cache.iterdir() if path.read_bytes() == code]
    cached.write_bytes(b"from the cache")
    assert assemble(source, arch) == b"from the cache"
    assert assemble(write(tmp_path, "\tnop\n\tnop\n\tnop\n"), arch) == 3 * NOP[arch]


def test_what_a_source_includes_may_change(tmp_path: Path, arch: str) -> None:
    source = write(tmp_path, '\t.include "part.inc"\n')
    write(tmp_path, "\tnop\n", "part.inc")
    assert assemble(source, arch) == NOP[arch]
    write(tmp_path, "\tnop\n\tnop\n", "part.inc")
    assert assemble(source, arch) == 2 * NOP[arch]


def test_a_cache_that_can_t_be_written_is_no_loss(
    tmp_path: Path, arch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(write(tmp_path, "", "a-file")))
    assert assemble(write(tmp_path, "\tnop\n"), arch) == NOP[arch]


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the payload .*nowhere\.s: No such file"):
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
