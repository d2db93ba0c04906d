# SPDX-License-Identifier: GPL-2.0-only
"""The emulated host's root file system: Debian's Python and packages for pyvmm and its tests.

It does not contain pyvmm, so it needs no rebuild when pyvmm changes. It is an erofs image on a
virtio disk, which is read on demand. It is not compressed: an emulated CPU decompresses slowly.
"""

import shutil
import subprocess
from pathlib import Path

from pyvmm.errors import LackingError
from pyvmm.lab import cache, package_tree
from pyvmm.lab.apt import Progress

PACKAGES = (
    "python3",
    "python3-pytest",
    "python3-hypothesis",
    "python3-capstone",
    "python3-rich",
    "python3-ptrace",
    "binutils",
    "busybox-static",
)
_MOUNT_POINTS = ("dev", "proc", "sys", "tmp", "run", "root", "checkout", "pycache")


def image(progress: Progress) -> Path:
    """Return the image file, after creating it if the cache lacks it."""
    path = _place().with_suffix(".erofs")
    with cache.create(path) as partial:
        if partial is not None:
            root = _root(progress)
            progress("creating the root file system", None)
            # Without owners and extended attributes, the image does not depend on the user.
            make = [
                *package_tree.tools(progress).command("mkfs.erofs"),
                "--all-root",
                "-x-1",
                "--quiet",
            ]
            done = subprocess.run(
                [*make, partial, root], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise LackingError(f"mkfs.erofs cannot create {path}: {done.stderr.strip()}")
    return path


def busybox(progress: Progress) -> Path:
    """Return the static busybox that runs init.sh from the initial RAM file system."""
    # A copy: a run then need not check the whole tree.
    path = _place().with_suffix(".busybox")
    with cache.create(path) as partial:
        if partial is not None:
            shutil.copy(_root(progress) / "usr/bin/busybox", partial)
    return path


def _place() -> Path:
    return package_tree.place("userland", "arm64", PACKAGES)


def _root(progress: Progress) -> Path:
    return package_tree.make("userland", "arm64", PACKAGES, progress, _finish)


def _finish(path: Path) -> None:
    """Create the files that maintainer scripts would create; remove unused ones."""
    (path / "usr/bin/sh").unlink(missing_ok=True)
    (path / "usr/bin/sh").symlink_to("busybox")
    for mount_point in _MOUNT_POINTS:
        (path / mount_point).mkdir(exist_ok=True)
    for unused in ("usr/share/zoneinfo", "usr/share/perl5", "usr/share/bash-completion", "var"):
        shutil.rmtree(path / unused, ignore_errors=True)
