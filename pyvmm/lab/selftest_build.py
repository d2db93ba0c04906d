# SPDX-License-Identifier: GPL-2.0-only
"""Builds of the kernel's selftests for arm64, of Debian's source or of your own tree.

The programs are linked statically, so they need nothing of the host's root file system.
"""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from pyvmm.errors import LackingError, PyvmmError, UsageError
from pyvmm.lab import build_chroot, cache, kernel_source, package_tree
from pyvmm.lab.apt import Progress
from pyvmm.lab.kernel import Kernel

SUITES = ("kvm", "vfio")
_SELFTESTS = "tools/testing/selftests"
_ELF = b"\x7fELF"


def build(suite: str, kernel: Kernel, source: Path | None, progress: Progress) -> Path:
    """Return the directory of a suite's programs, after building it if the cache lacks it.

    Without `source`, build Debian's source of the kernel's series. With `source`, always run make,
    on a copy: the build of the kvm suite writes to its source.

    Raises `UsageError` if `source` has no such suite, `LackingError` if the mirror has no source,
    and `PyvmmError` if the build fails.
    """
    if source is None:
        original = kernel_source.for_selftests(_series(kernel), progress)
        path = cache.root() / "selftests" / f"{suite}-{original.name.rpartition('-')[2]}"
        if cache.is_intact(path):
            return path
    else:
        _check(suite, source, UsageError)
        digest = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:8]
        original, path = source, cache.root() / "selftests" / f"{suite}-{digest}"
    _check(suite, original, LackingError)
    root = package_tree.build_root(progress, programs=True)
    work = cache.root() / "build" / f"selftests-{path.name.partition('-')[2]}"
    with cache.lock(work):
        copy = work / "source"
        copy.mkdir(parents=True, exist_ok=True)
        progress(f"copying the parts of {original.name} that selftests need", None)
        _update(original, copy)
        _copy_libuuid(work, progress)
        progress(f"building the selftests of {suite}", None)
        _make(root, copy, work, "-C", "/source", "headers")
        _make(root, copy, work, "-C", f"/source/{_SELFTESTS}", f"TARGETS={suite}")
        _install(work / "kselftest" / suite, path)
    return path


def programs(directory: Path) -> list[str]:
    """Return the names of the programs in a suite's directory: "arm64/at", "rseq_test"."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(directory)) for path in files)


def _series(kernel: Kernel) -> str:
    """Return the series of a kernel: of its name, or of the version in its image."""
    if match := re.match(r"debian-(\d+\.\d+)", kernel.name):
        return match[1]
    if version := re.search(rb"Linux version (\d+\.\d+)", kernel.image.read_bytes()):
        return version[1].decode()
    raise UsageError(f"the image {kernel.image} names no version: pass --source TREE")


def _check(suite: str, source: Path, error: type[PyvmmError]) -> None:
    if not (source / _SELFTESTS / suite / "Makefile").exists():
        raise error(
            f"{source} has no {_SELFTESTS}/{suite}: pass --source TREE, a kernel source that has it"
        )


def _update(source: Path, copy: Path) -> None:
    """Copy the parts of a source that have changed since the last copy."""
    parts = [part for part in kernel_source.SELFTEST_PARTS if (source / part).exists()]
    argv = ["cp", "-a", "--update", "--parents", *parts, str(copy.resolve())]
    done = subprocess.run(argv, cwd=source, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LackingError(f"cannot copy {source}: {done.stderr.strip().splitlines()[-1]}")


def _copy_libuuid(work: Path, progress: Progress) -> None:
    """Copy the library, which the vfio suite links, to where the compiler finds it."""
    tree = package_tree.libuuid(progress)
    (work / "uuid/uuid").mkdir(parents=True, exist_ok=True)
    shutil.copy(tree / "usr/include/uuid/uuid.h", work / "uuid/uuid")
    shutil.copy(next(tree.glob("usr/lib/*/libuuid.a")), work / "uuid")


def _make(root: Path, source: Path, work: Path, *arguments: str) -> None:
    cross = () if package_tree.native() == "arm64" else ("CROSS_COMPILE=aarch64-linux-gnu-",)
    flags = "EXTRA_CFLAGS=-static -I/build/uuid -L/build/uuid"
    argv = ["make", *arguments, "O=/build", "ARCH=arm64", *cross, f"-j{os.cpu_count()}", flags]
    done = build_chroot.run(root, source, work, *argv)
    if done.returncode:
        log = work / "make.log"
        log.write_text(done.stdout)
        raise PyvmmError(
            f"make {arguments[-1]} failed: {build_chroot.error_line(done.stdout)}; see {log}"
        )


def _install(built: Path, path: Path) -> None:
    """Copy the programs to the cache."""
    with cache.create(path, replace=True) as partial:
        assert partial is not None
        partial.mkdir()
        for file in built.rglob("*"):
            if file.is_file() and os.access(file, os.X_OK) and _is_elf(file):
                target = partial / file.relative_to(built)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ELF)) == _ELF
