# SPDX-License-Identifier: GPL-2.0-only
"""Kernel headers from Debian's ``linux-libc-dev`` packages, unpacked in the cache."""

from pathlib import Path

from pyvmm.errors import UsageError
from pyvmm.lab import apt, cache

PACKAGE = "linux-libc-dev"


def fetch(version: str, progress: apt.Progress = apt.no_progress) -> Path:
    """Return the directory with the headers of kernel `version` ("6.1", "7.2.12").

    It has the arm64 headers, and those of all architectures if Debian ships them in one package
    (since 6.12). Headers do not change within a version, so a cached package is never updated.
    Raises `UsageError` if the mirror lacks the version, `LackingError` if it is unreachable.
    """
    store = cache.root() / "headers"
    cached = [
        path
        for path in store.glob("[!.]*")
        if _matches(path.name, version) and cache.is_intact(path)
    ]
    if cached:
        return max(cached, key=lambda path: path.stat().st_mtime)
    debian = apt.Apt("arm64", progress)
    offered = [each.version for each in debian.versions(PACKAGE)]
    chosen = [each for each in offered if _matches(each, version)]
    if not chosen:
        names = dict.fromkeys(".".join(each.split(".")[:2]).split("~")[0] for each in offered)
        raise UsageError(
            f"Debian's mirror has no {PACKAGE} {version}: pass {', '.join(names)}{debian.omitted()}"
        )
    place = store / chosen[0]
    with cache.create(place) as partial:
        if partial:
            archives = debian.fetch(f"{PACKAGE}={chosen[0]}", dependencies=False)
            apt.unpack(archives, partial, progress=progress)
    return place


def _matches(package: str, version: str) -> bool:
    """Return True if a package version ("7.2.12-1~bpo13+1") is of kernel `version` ("7.2")."""
    return package == version or package.startswith((f"{version}.", f"{version}-"))
