# SPDX-License-Identifier: GPL-2.0-only
"""The kernel headers of a Debian release: ``linux-libc-dev``, unpacked in the cache."""

from pathlib import Path

from pyvmm.errors import UsageError
from pyvmm.lab import apt, cache

PACKAGE = "linux-libc-dev"


def fetch(version: str, progress: apt.Progress = lambda what, done: None) -> Path:
    """Return the directory of a kernel's headers, by its version: "6.1", "7.2.12".

    They are arm64's, and every other architecture's where Debian has all in one package (6.12
    has). What is unpacked of that version already will do: within a release the headers stay as
    they are. Raises `UsageError` where the mirror has no such version, `LackingError` where it
    cannot be reached.
    """
    store = cache.root() / "headers"
    have = [place for place in store.glob("[!.]*") if _is_of(place.name, version)]
    if have:
        return max(have, key=lambda place: place.stat().st_mtime)
    debian = apt.Apt("arm64", progress)
    offered = [each.version for each in debian.versions(PACKAGE)]
    chosen = [each for each in offered if _is_of(each, version)]
    if not chosen:
        names = dict.fromkeys(".".join(each.split(".")[:2]).split("~")[0] for each in offered)
        raise UsageError(f"Debian's mirror has no {PACKAGE} {version}: it has {', '.join(names)}")
    place = store / chosen[0]
    with cache.making(place) as partial:
        if partial:
            archives = debian.fetch(f"{PACKAGE}={chosen[0]}", dependencies=False)
            apt.unpack(archives, partial, progress=progress)
    return place


def _is_of(package: str, version: str) -> bool:
    """Whether a package's version, "7.2.12-1~bpo13+1", is of a kernel's: "7.2", "7.2.12"."""
    return package == version or package.startswith((f"{version}.", f"{version}-"))
