# SPDX-License-Identifier: GPL-2.0-only
"""The kernel headers of a Debian release: ``linux-libc-dev``, unpacked in the cache."""

from pathlib import Path

from pyvmm.errors import UsageError
from pyvmm.lab import apt, cache

PACKAGE = "linux-libc-dev"


def fetch(version: str, tell: apt.Tell = lambda what, done: None) -> Path:
    """Return the directory of a kernel's headers, by its version: "6.1", "7.2.12".

    They are arm64's, and every other architecture's where Debian keeps all in one package, which
    it does since 6.8. Raises `UsageError` where the mirror has no such version, `LackingError`
    where it cannot be reached.
    """
    debian = apt.Apt("arm64", tell)
    offered = [each.version for each in debian.versions(PACKAGE)]
    chosen = [each for each in offered if each.startswith((f"{version}.", f"{version}-"))]
    if not chosen:
        have = dict.fromkeys(".".join(each.split(".")[:2]).split("~")[0] for each in offered)
        raise UsageError(f"Debian's mirror has no {PACKAGE} {version}: it has {', '.join(have)}")
    place = cache.root() / "headers" / chosen[0]
    with cache.making(place) as partial:
        if partial:
            archives = debian.fetch(f"{PACKAGE}={chosen[0]}", dependencies=False)
            apt.unpack(archives, partial, tell=tell)
    return place
