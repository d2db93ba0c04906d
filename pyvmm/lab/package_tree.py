# SPDX-License-Identifier: GPL-2.0-only
"""Directories of unpacked Debian packages, which are used without being installed.

A directory has its own C library and dynamic loader, so its programs run on any distribution.
"""

import hashlib
import platform
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyvmm.errors import LackingError, UsageError
from pyvmm.lab import cache
from pyvmm.lab.apt import Apt, Progress, unpack

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")  # Debian Policy, 5.6.1
# Debian's architecture names, by uname(1) machine.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class PackageTree:
    """Packages of this machine's architecture, unpacked in the directory `path`."""

    path: Path

    def command(self, program: str) -> list[str]:
        """Return the command that runs a program with the directory's loader and libraries."""
        loader = next(self.path.glob("usr/lib*/ld-linux-*.so.*"))
        libraries = next(self.path.glob("usr/lib/*-linux-gnu/libc.so.6")).parent
        found = next(self.path.glob(f"usr/*bin/{program}"))
        return [str(loader), "--library-path", str(libraries), "--argv0", program, str(found)]


def native() -> str:
    """Return Debian's name for this machine's architecture. Raises `LackingError`."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise LackingError(f"the lab does not run on {machine}: use {' or '.join(_ARCHITECTURES)}")
    return _ARCHITECTURES[machine]


def tools(progress: Progress) -> PackageTree:
    """Return QEMU, erofs-utils and the device tree compiler."""
    packages = ("qemu-system-arm", "erofs-utils", "device-tree-compiler")
    return PackageTree(make("tools", native(), packages, progress))


def for_host(package: str, progress: Progress) -> Path:
    """Return an arm64 package and its dependencies, for the emulated host.

    Raises `UsageError` if `package` is not a package's name.
    """
    if not _PACKAGE.fullmatch(package):
        raise UsageError(f"{package!r} is not the name of a Debian package")
    return make(f"host-{package}", "arm64", (package,), progress)


def build_root(progress: Progress, *, programs: bool = False) -> Path:
    """Return a chroot directory with the compilers and tools that build an arm64 kernel.

    With `programs`, it also builds programs that run on it.
    """
    compilers = ["gcc"] if native() == "arm64" else ["gcc", "gcc-aarch64-linux-gnu"]
    packages = (
        *("make", *compilers, "libc6-dev", "flex", "bison", "bc", "perl-base", "python3-minimal"),
        *("dash", "coreutils", "findutils", "sed", "grep", "mawk", "diffutils", "patch"),
        *("tar", "gzip", "xz-utils"),
        *(["libc6-dev-arm64-cross"] if programs and native() != "arm64" else []),
    )

    def finish(path: Path) -> None:
        # Maintainer scripts create these links when packages are installed.
        (path / "usr/bin/awk").symlink_to("mawk")
        (path / "usr/bin/sh").unlink(missing_ok=True)
        (path / "usr/bin/sh").symlink_to("dash")
        for mount_point in ("source", "build", "proc", "dev", "tmp"):
            (path / mount_point).mkdir(exist_ok=True)

    return make("builder", native(), packages, progress, finish)


def libuuid(progress: Progress) -> Path:
    """Return the directory of libuuid and its headers, for arm64."""
    return make("uuid", "arm64", ("uuid-dev",), progress)


def place(name: str, architecture: str, packages: Sequence[str]) -> Path:
    """Return the path of the directory that `make` creates."""
    digest = hashlib.sha256(" ".join((architecture, *packages)).encode()).hexdigest()[:8]
    return cache.root() / "trees" / f"{name}-{digest}"


def make(
    name: str,
    architecture: str,
    packages: Sequence[str],
    progress: Progress,
    finish: Callable[[Path], None] = lambda path: None,
) -> Path:
    """Return the directory of these packages and their dependencies, after creating it if needed.

    `finish` edits a new directory. An existing one is never updated: newer package versions come
    only after ``lab clean``.
    """
    path = place(name, architecture, packages)
    with cache.create(path) as partial:
        if partial is not None:
            apt = Apt(architecture, progress)
            archives = apt.fetch(*packages)
            unpack(archives, partial, progress=progress)
            # Unused, and a third of the size.
            for unused in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info"):
                shutil.rmtree(partial / unused, ignore_errors=True)
            finish(partial)
            for archive in archives:
                archive.unlink()
    return path
