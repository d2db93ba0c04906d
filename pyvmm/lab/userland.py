# SPDX-License-Identifier: GPL-2.0-only
"""The emulated host's root file system: Debian's Python and what pyvmm's extras and tests need.

It holds nothing of the project, so a change in the project never makes it anew. It is an erofs
image on a virtio disk: read where it is needed, never held in memory whole, and not
compressed, since an emulated CPU unpacks slowly.
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
# Where the checkout and the compiled Python of all runs are mounted.
CHECKOUT = "/checkout"
PYCACHE = "/pycache"
_MOUNT_POINTS = ("dev", "proc", "sys", "tmp", "run", "root", CHECKOUT[1:], PYCACHE[1:])


def image(progress: Progress) -> Path:
    """The image, made if it is not in the cache yet."""
    root = package_tree.make("userland", "arm64", PACKAGES, progress, _finish)
    place = root.with_suffix(".erofs")
    with cache.making(place) as partial:
        if partial is not None:
            progress("making the root file system", None)
            # All of root's, and no extended attributes: the image is the same, whoever makes it.
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
                raise LackingError(f"making {place} failed: {done.stderr.strip()}")
    return place


def busybox(progress: Progress) -> Path:
    """The static busybox that starts the emulated host, before it has a root file system."""
    return package_tree.make("userland", "arm64", PACKAGES, progress, _finish) / "usr/bin/busybox"


def _finish(path: Path) -> None:
    """What maintainer scripts would have made, and less of what nothing here opens."""
    (path / "usr/bin/sh").unlink(missing_ok=True)
    (path / "usr/bin/sh").symlink_to("busybox")
    for mount_point in _MOUNT_POINTS:
        (path / mount_point).mkdir(exist_ok=True)
    for waste in ("usr/share/zoneinfo", "usr/share/perl5", "usr/share/bash-completion", "var"):
        shutil.rmtree(path / waste, ignore_errors=True)
