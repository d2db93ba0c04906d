# SPDX-License-Identifier: GPL-2.0-only
"""The kernel headers that the bindings were generated from, fetched once and kept."""

import re
from pathlib import Path

import pytest

from pyvmm.errors import LackingError
from pyvmm.lab import apt, cache
from pyvmm.uapi import kvm

PACKAGE = "linux-libc-dev"


@pytest.fixture(scope="session")
def release() -> str:
    """The kernel release that the committed bindings say they are of: "7.2"."""
    said = re.search(r"of Linux (\d+\.\d+)", kvm.__doc__ or "")
    assert said
    return said[1]


@pytest.fixture(scope="session")
def headers(release: str) -> Path:
    """That release's headers: Debian's, for every architecture."""
    try:
        debian = apt.Apt("amd64")
        versions = [each.version for each in debian.versions(PACKAGE)]
    except LackingError as error:
        pytest.skip(f"the kernel headers need Debian's mirror: {error}")
    offered = [version for version in versions if version.startswith(f"{release}.")]
    if not offered:
        pytest.skip(
            f"Debian's mirror no longer offers {PACKAGE} {release}: unpack it from its archive of "
            "old packages, and run python -m pyvmm.uapi.generate --headers DIR --check"
        )
    place = cache.root() / "headers" / offered[0]
    with cache.making(place) as partial:
        if partial:
            archives = debian.fetch(f"{PACKAGE}={offered[0]}", dependencies=False)
            apt.unpack(archives, partial)
    return place


@pytest.fixture
def libclang() -> None:
    """What reads headers."""
    pytest.importorskip("clang", reason="reading headers needs pip install 'pyvmm[headers]'")
