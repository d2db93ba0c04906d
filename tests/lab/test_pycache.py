# SPDX-License-Identifier: GPL-2.0-only
"""Save compiled files of a run, and reject everything else in its archive."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from pyvmm import cache_dir
from pyvmm.lab import cache, pycache

SHARES = {"/checkout": Path("/somewhere")}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def _tar(name: str, content: bytes = b"code", kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.size, member.linkname = kind, len(content), "/etc/passwd"
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _kept() -> list[str]:
    return [
        str(path.relative_to(cache.root())) for path in cache.root().rglob("*") if path.is_file()
    ]


def test_next_run_gets_compiled_files() -> None:
    # Concatenated archives, as xargs creates them.
    pycache.save(_tar("./usr/one.pyc") + _tar("./two.bin"), SHARES)
    assert cache_dir.read(pycache.directory(None) / "usr/one.pyc") == b"code"
    archive = pycache.archive(SHARES)
    assert b"pycache/usr/one.pyc" in archive
    assert b"pycache/two.bin" in archive


def test_damaged_file_is_left_out() -> None:
    pycache.save(_tar("./one.pyc") + _tar("./two.pyc"), SHARES)
    file = pycache.directory(None) / "one.pyc"
    file.write_bytes(file.read_bytes()[:-1] + b"X")
    archive = pycache.archive(SHARES)
    assert b"two.pyc" in archive
    assert b"one.pyc" not in archive


def test_compiled_files_belong_to_their_share() -> None:
    pycache.save(_tar("./checkout/one.pyc"), SHARES)
    assert b"pycache/checkout/one.pyc" in pycache.archive(SHARES)
    assert b"one.pyc" not in pycache.archive({"/checkout": Path("/elsewhere")})


@pytest.mark.parametrize(
    "sent",
    [
        _tar("../../up.pyc"),
        _tar("usr/script.py"),
        _tar("link.pyc", b"", tarfile.SYMTYPE),
        _tar("hard.pyc", b"", tarfile.LNKTYPE),
        _tar("device.pyc", b"", tarfile.CHRTYPE),
        _tar("cut.pyc", b"x" * 5000)[:1000],
        gzip.compress(_tar("compressed.pyc"))[:-9] + b"damaged",
        b"no archive at all" * 100,
        b"",
    ],
    ids=[
        "above",
        "source",
        "symlink",
        "hardlink",
        "device",
        "cut",
        "compressed",
        "garbage",
        "nothing",
    ],
)
def test_invalid_files_and_archives_are_ignored(sent: bytes) -> None:
    pycache.save(sent, SHARES)
    assert _kept() == []


def test_absolute_name_stays_below_the_directory() -> None:
    pycache.save(_tar("/etc/one.pyc"), SHARES)
    assert (pycache.directory(None) / "etc/one.pyc").exists()
