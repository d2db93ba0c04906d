# SPDX-License-Identifier: GPL-2.0-only
"""Compiled Python and guest payloads, kept between runs: an emulated CPU compiles slowly.

A run gets the files compiled by earlier runs in its initial RAM file system. When its command
ends, it sends the files that it compiled as a tar archive. A damaged file is left out, and so
compiled again.
"""

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pyvmm import cache_dir
from pyvmm.cpio import CpioArchive

_SUFFIXES = (".pyc", ".bin")


def directory(shared: Path | None) -> Path:
    """Return the cache directory for files compiled from a shared directory.

    None stands for the root file system. Each shared directory needs its own: Python names a
    compiled file by the path of its source, and different directories have the same mount point.
    """
    name = hashlib.sha256(bytes(shared)).hexdigest()[:8] if shared else "image"
    return cache_dir.root() / "pycache" / "checked" / name


def archive(shares: Mapping[str, Path]) -> bytes:
    """Return a cpio archive of ``/pycache``; `shares` are paths by mount point in the host."""
    cpio = CpioArchive()
    cpio.directory("pycache")
    for source in (directory(None), *map(directory, dict.fromkeys(shares.values()))):
        for path in sorted(source.rglob("*")):
            name = f"pycache/{path.relative_to(source)}"
            if path.is_dir():
                cpio.directory(name)
            elif path.suffix in _SUFFIXES and (content := cache_dir.read(path)) is not None:
                cpio.file(name, content)
    return cpio.to_bytes()


def save(archive: bytes, shares: Mapping[str, Path]) -> None:
    """Store the compiled files of a run's tar archive in the cache, each atomically.

    The archive comes from the emulated host and is not trusted: other files, and names that lead
    out of the directory, are ignored, and so is an invalid archive.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", ignore_zeros=True) as tar:
            for member in tar:
                path = PurePosixPath("/", member.name)
                content = tar.extractfile(member) if member.isreg() else None
                if content and path.suffix in _SUFFIXES and ".." not in path.parts:
                    shared = next((shares[at] for at in shares if path.is_relative_to(at)), None)
                    place = directory(shared) / path.relative_to("/")
                    cache_dir.write(place, content.read())
    except tarfile.TarError:
        return
