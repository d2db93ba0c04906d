# SPDX-License-Identifier: GPL-2.0-only
"""Compiled Python and payloads, kept from one run for the next: an emulated CPU compiles slowly.

A run starts with what earlier ones compiled, in its initial RAM file system, and sends what it
compiled itself, as a tar archive, when its command has ended.
"""

import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pyvmm.lab import cache
from pyvmm.lab.initramfs import CpioArchive

_SUFFIXES = (".pyc", ".bin")


def store(shared: Path | None) -> Path:
    """Where they are kept: what comes of a shared directory by that, all else together.

    What Python compiles is known by its path, and different directories have the same one there;
    the root file system's is always the same.
    """
    name = hashlib.sha256(bytes(shared)).hexdigest()[:8] if shared else "image"
    return cache.root() / "pycache" / name


def archive(shares: Mapping[str, Path]) -> bytes:
    """What is kept, as an archive of ``/pycache``; `shares` are what is shared, by path there."""
    made = CpioArchive()
    made.directory("pycache")
    for kept in (store(None), *map(store, dict.fromkeys(shares.values()))):
        for path in sorted(kept.rglob("*")):
            name = f"pycache/{path.relative_to(kept)}"
            if path.is_dir():
                made.directory(name)
            elif path.suffix in _SUFFIXES:
                made.file(name, path.read_bytes())
    return made.to_bytes()


def keep(sent: bytes, shares: Mapping[str, Path]) -> None:
    """Keep what a run sent: compiled things only, each file whole or not at all.

    The sender is a guest: nothing that it names is written outside the store, and what is no
    archive is left alone.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(sent), ignore_zeros=True) as tar:
            for member in tar:
                path = PurePosixPath("/", member.name)
                content = tar.extractfile(member) if member.isreg() else None
                if content and path.suffix in _SUFFIXES and ".." not in path.parts:
                    shared = next((shares[at] for at in shares if path.is_relative_to(at)), None)
                    _write(store(shared) / path.relative_to("/"), content.read())
    except tarfile.TarError:
        return


def _write(place: Path, content: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=place.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    Path(partial).replace(place)
