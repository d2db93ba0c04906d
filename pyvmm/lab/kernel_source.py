# SPDX-License-Identifier: GPL-2.0-only
"""Kernel sources from Debian's ``linux-source`` packages, for kernels and for selftests."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pyvmm.errors import LackingError
from pyvmm.lab import cache, package_tree
from pyvmm.lab.apt import Apt, Progress, unpack

# The newest series on which the tests passed; lab:7.2, for example, selects another.
SERIES = "7.3"
_DISK_SPACE = 4 << 30  # bytes: the source, packed and unpacked, and the objects
# Parts of the source that an arm64 build does not read: half of its size.
_UNUSED = (
    *("drivers/gpu/drm/amd/include", "drivers/gpu/drm/amd/display", "drivers/net/ethernet/*/*"),
    *("Documentation/[a-z]*", "tools/testing", "tools/perf", "sound/*/*", "arch/*/boot/dts"),
)
# The parts that the selftests of kvm and vfio are built from: headers, and tests with their tools.
SELFTEST_PARTS = (
    *("Makefile", "Kbuild", "scripts", "include", "arch/arm64", "tools"),
    "drivers/net/ethernet/intel/igb",
)
_UNUSED_BY_SELFTESTS = ("arch/arm64/boot/dts", "tools/perf", "tools/testing/selftests/bpf")


def series(name: str) -> str | None:
    """Return the series in "lab:7.2", or None if the variant is not a series."""
    match = re.fullmatch(r"lab:(\d+\.\d+)", name)
    return match[1] if match else None


def for_kernel(chosen: str | None, progress: Progress) -> Path:
    """Return the source of a series, by default `SERIES`, after downloading it if needed."""
    options = [f"--exclude=linux-source-*/{path}/*.[ch]" for path in _UNUSED]
    return _source("source", chosen, progress, options, [])


def for_selftests(chosen: str, progress: Progress) -> Path:
    """Return the parts of a source that `SELFTEST_PARTS` names."""
    options = ["--wildcards", "--no-wildcards-match-slash"]
    options += [f"--exclude=linux-source-*/{path}" for path in _UNUSED_BY_SELFTESTS]
    members = [f"linux-source-*/{path}" for path in SELFTEST_PARTS]
    return _source("selftests-source", chosen, progress, options, members)


def _source(
    kind: str,
    chosen: str | None,
    progress: Progress,
    options: Sequence[str],
    members: Sequence[str],
) -> Path:
    """Return the unpacked source of a series; `options` and `members` are for tar."""
    store = cache.root() / "build"
    paths = sorted(store.glob(f"{kind}-{chosen or SERIES}.*"))
    cached = [path for path in paths if cache.is_intact(path)]
    if cached and (not chosen or members):
        return cached[-1]  # the cached objects were built from it
    apt = Apt(package_tree.native(), progress)
    package, newest = _offered(apt, chosen)
    upstream = newest.split("-")[0]
    path = store / f"{kind}-{upstream}"
    with cache.create(path) as partial:
        if partial is not None:
            cache.require_space(_DISK_SPACE)
            archives = apt.fetch(f"{package}={newest}", dependencies=False)
            unpacked = partial.with_name(partial.name + ".unpacked")
            try:
                unpack(archives, unpacked)
                progress(f"unpacking the source of Linux {upstream}", None)
                partial.mkdir()
                tarball = next(unpacked.glob("usr/src/*.tar.xz"))
                _untar(tarball, partial, options, members)
            finally:
                cache.remove(unpacked)
            archives[0].unlink()
    return path


def _offered(apt: Apt, chosen: str | None) -> tuple[str, str]:
    """Return the source package of a series, by default `SERIES`, and its newest version."""
    package = f"linux-source-{chosen or SERIES}"
    if offers := apt.versions(package):
        return package, offers[0].version
    # A mirror drops a series when the next one is released: use that.
    if chosen is None and (offers := apt.versions("linux-source")):
        return f"linux-source-{'.'.join(offers[0].version.split('.')[:2])}", offers[0].version
    names = [name.rpartition("-")[2] for name in apt.names(r"^linux-source-[0-9.]+$")]
    raise LackingError(
        f"the Debian mirror has no {package}, but {', '.join(names)}: pass another series, or your "
        f"own tree with --source{apt.omitted()}"
    )


def _untar(tarball: Path, into: Path, options: Sequence[str], members: Sequence[str]) -> None:
    argv = ["tar", "-x", "--strip-components=1", *options, "-C", str(into), "-f", str(tarball)]
    done = subprocess.run([*argv, *members], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LackingError(f"cannot unpack {tarball.name}: {done.stderr.strip()}")
