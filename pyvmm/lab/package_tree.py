# SPDX-License-Identifier: GPL-2.0-only
"""Debian packages unpacked into a directory of their own, to be used from there.

A tree brings its own C library and loader, so it runs on any distribution, whatever that has
installed, and nothing of the machine's changes.
"""

import hashlib
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyvmm.errors import LackingError
from pyvmm.lab import cache
from pyvmm.lab.apt import Apt, Progress, unpack

# Debian's names of the machines the lab's tools run on.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class PackageTree:
    """An unpacked tree of this machine's architecture."""

    path: Path

    def command(self, program: str) -> list[str]:
        """How to run a program of the tree: by the tree's own loader, with its libraries."""
        loader = next(self.path.glob("usr/lib*/ld-linux-*.so.*"))
        libraries = next(self.path.glob("usr/lib/*-linux-gnu/libc.so.6")).parent
        found = next(self.path.glob(f"usr/*bin/{program}"))
        return [str(loader), "--library-path", str(libraries), "--argv0", program, str(found)]


def native() -> str:
    """Debian's name for this machine's architecture."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise LackingError(f"the lab runs on {' and '.join(_ARCHITECTURES)}, not on {machine}")
    return _ARCHITECTURES[machine]


def tools(progress: Progress) -> PackageTree:
    """QEMU, and what makes images and edits device trees."""
    packages = ("qemu-system-arm", "erofs-utils", "device-tree-compiler")
    return PackageTree(make("tools", native(), packages, progress))


def build_root(progress: Progress) -> Path:
    """What builds an arm64 kernel, to be entered with chroot."""
    compilers = ["gcc"] if native() == "arm64" else ["gcc", "gcc-aarch64-linux-gnu"]
    packages = (
        *("make", *compilers, "libc6-dev", "flex", "bison", "bc", "perl-base", "python3-minimal"),
        *("dash", "coreutils", "findutils", "sed", "grep", "mawk", "diffutils", "patch"),
        *("tar", "gzip", "xz-utils"),
    )

    def finish(path: Path) -> None:
        # dpkg's maintainer scripts make these links; they have not run.
        (path / "usr/bin/awk").symlink_to("mawk")
        (path / "usr/bin/sh").unlink(missing_ok=True)
        (path / "usr/bin/sh").symlink_to("dash")
        for mount_point in ("source", "build", "proc", "dev", "tmp"):
            (path / mount_point).mkdir(exist_ok=True)

    return make("builder", native(), packages, progress, finish)


def make(
    name: str,
    architecture: str,
    packages: Sequence[str],
    progress: Progress,
    finish: Callable[[Path], None] = lambda path: None,
) -> Path:
    """The tree of these packages and all they depend on, made if it is not in the cache yet.

    It is known by its packages' names: a newer version of one is taken when the tree is made
    anew, after ``lab clean``.
    """
    digest = hashlib.sha256(" ".join((architecture, *packages)).encode()).hexdigest()[:8]
    place = cache.root() / "trees" / f"{name}-{digest}"
    with cache.making(place) as partial:
        if partial is not None:
            apt = Apt(architecture, progress)
            archives = apt.fetch(*packages)
            unpack(archives, partial, progress=progress)
            # Of no use to anyone here, and a third of the whole.
            for waste in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info"):
                shutil.rmtree(partial / waste, ignore_errors=True)
            finish(partial)
            for archive in archives:
                archive.unlink()
    return place
