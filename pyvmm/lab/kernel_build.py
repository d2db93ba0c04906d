# SPDX-License-Identifier: GPL-2.0-only
"""Building the lab's kernel: from Debian's source, or a tree of yours, patched or not.

The compilers come from a tree of Debian's own, entered with chroot in a mount namespace, so
every machine builds with the same ones. The kernel's source is always mounted at ``/source``
and its objects at ``/build``: with the paths the same, make builds a variant from a copy of the
objects and compiles only what a patch touches.
"""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from pyvmm.errors import LackingError, PyvmmError, UsageError
from pyvmm.lab import cache, kernel, package_tree
from pyvmm.lab.apt import Apt, Progress, unpack

FRAGMENT = Path(__file__).with_name("kernel.config")
# The newest that the project's tests have passed on; lab:7.2, say, is another.
SERIES = "7.3"
CPU_MINUTES = 19  # what a build from nothing takes, measured on a busy machine
_STEPS = 1550  # lines that make prints in it
_ROOM = 4 << 30  # bytes: the source, packed and unpacked, and the objects
# Parts of the source that nothing for arm64 reads, half of its size.
_UNREAD = (
    *("drivers/gpu/drm/amd/include", "drivers/gpu/drm/amd/display", "drivers/net/ethernet/*/*"),
    *("Documentation/[a-z]*", "tools/testing", "tools/perf", "sound/*/*", "arch/*/boot/dts"),
)

_ENTER = """\
set -e
root=$1; shift
mount --bind "$1" "$root/source"; shift
mount --bind "$1" "$root/build"; shift
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
exec setpriv --pdeathsig TERM nice chroot "$root" /usr/bin/env -i PATH=/usr/bin LC_ALL=C "$@"
"""


def build(
    name: str, progress: Progress, *, source: Path | None = None, patch: Path | None = None
) -> None:
    """Build the kernel ``lab`` or ``lab:VARIANT`` into the cache.

    Without ``source`` it is made of Debian's newest source of `SERIES`, or, where the variant is
    a version ("lab:7.2"), of that series, once, and again where the fragment has changed. With a
    ``source`` of yours make decides each time what there is to do. A ``patch`` is put on a copy
    of the source. Raises `LackingError` where something is missing, `PyvmmError` where the build
    itself fails.
    """
    variant = kernel.directory(name)
    place = kernel.store() / variant
    work = cache.root() / "build" / variant
    if source is None and patch is None and _is_built(name, place):
        return
    if source is not None and not (source / "arch/arm64/Kconfig").exists():
        raise UsageError(f"{source} is no kernel source: it has no arch/arm64/Kconfig")
    root = package_tree.build_root(progress)
    with cache.locked(work):
        work.mkdir(exist_ok=True)
        original = source or _debian_source(name, progress)
        if patch is not None:
            original = _patched(root, original, patch, work)
        _configure(root, original, work)
        minutes = -(-CPU_MINUTES // (os.cpu_count() or 1))
        _make(root, original, work, "Image", progress, f"building {name} (about {minutes} minutes)")
        _install(work / "arch/arm64/boot/Image", place)


def find_or_build(name: str | None, progress: Progress) -> kernel.Kernel:
    """The kernel of a name (see `kernel.find`), built if it is the lab's and not yet there."""
    if (found := kernel.find(name, progress)) is None:
        assert name is not None
        build(name, progress)
        found = kernel.find(name, progress)
    assert found is not None
    return found


def _debian_source(name: str, progress: Progress) -> Path:
    """Debian's kernel source that a name means, unpacked."""
    chosen = _series(name)
    here = sorted((cache.root() / "build").glob(f"source-{chosen or SERIES}.*"))
    if here and not chosen:
        return here[-1]  # the one that the objects at hand were made of
    apt = Apt(package_tree.native(), progress)
    package, newest = _offered(apt, chosen)
    upstream = newest.split("-")[0]
    place = cache.root() / "build" / f"source-{upstream}"
    with cache.making(place) as partial:
        if partial is not None:
            cache.need(_ROOM)
            archives = apt.fetch(f"{package}={newest}", dependencies=False)
            unpacked = partial.with_name(partial.name + ".unpacked")
            try:
                unpack(archives, unpacked)
                progress(f"unpacking the source of Linux {upstream}", None)
                partial.mkdir()
                _untar(next(unpacked.glob("usr/src/*.tar.xz")), partial)
            finally:
                cache.remove(unpacked)
            archives[0].unlink()
    return place


def _series(name: str) -> str | None:
    """The series that "lab:7.2" asks for; None where the variant is no version."""
    match = re.fullmatch(r"lab:(\d+\.\d+)", name)
    return match[1] if match else None


def _offered(apt: Apt, chosen: str | None) -> tuple[str, str]:
    """The source package of a series, by default `SERIES`, and its newest version."""
    package = f"linux-source-{chosen or SERIES}"
    if offers := apt.versions(package):
        return package, offers[0].version
    # A mirror drops a series when it has the next one: then the next one it is.
    if chosen is None and (offers := apt.versions("linux-source")):
        return f"linux-source-{'.'.join(offers[0].version.split('.')[:2])}", offers[0].version
    raise LackingError(f"Debian's mirror has no {package}")


def _untar(tarball: Path, into: Path) -> None:
    exclude = [f"--exclude=linux-source-*/{path}/*.[ch]" for path in _UNREAD]
    argv = ["tar", "-x", "--strip-components=1", *exclude, "-C", str(into), "-f", str(tarball)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LackingError(f"{tarball.name} does not unpack: {done.stderr.strip()}")


def _patched(root: Path, source: Path, patch: Path, work: Path) -> Path:
    """A copy of the source with a patch on it, and the unpatched kernel's objects beside it."""
    if not patch.is_file():
        raise UsageError(f"there is no patch {patch}")
    digest = hashlib.sha256(patch.read_bytes()).hexdigest()[:8]
    copy = work.with_name(f"{work.name}-source-{digest}")
    with cache.making(copy) as partial:
        if partial is not None:
            for old in work.parent.glob(f"{work.name}-source-*"):
                cache.remove(old)
            # Hard links cost no space; patch(1) writes a new file and leaves the old one be.
            subprocess.run(["cp", "-al", source, partial], check=True)
            # Objects of another patch's files would look newer than what they are made of now.
            cache.remove(work)
            if (base := work.with_name("lab")).exists():
                subprocess.run(["cp", "-a", base, work], check=True)
            work.mkdir(exist_ok=True)
            shutil.copy(patch, work / "variant.patch")
            argv = ["patch", "-p1", "--batch", "-d", "/source", "-i", "/build/variant.patch"]
            done = _enter(root, partial, work, *argv)
            if done.returncode:
                raise PyvmmError(f"{patch} does not apply to {source.name}: {_last(done.stdout)}")
    return copy


def _configure(root: Path, source: Path, work: Path) -> None:
    """allnoconfig and the fragment, where either has changed."""
    fragment = FRAGMENT.read_text()
    used = work / "lab.config"
    if used.exists() and used.read_text() == fragment and (work / ".config").exists():
        return
    used.write_text(fragment)
    _make(root, source, work, "allnoconfig")
    configured = set((work / ".config").read_text().splitlines())
    wanted = [line for line in fragment.splitlines() if line.startswith("CONFIG_")]
    if missing := {"CONFIG_KVM=y", "CONFIG_VIRTIO_MMIO=y"} & set(wanted) - configured:
        raise PyvmmError(f"{source} cannot have {', '.join(sorted(missing))}: is it Linux?")


def _make(
    root: Path,
    source: Path,
    work: Path,
    target: str,
    progress: Progress = lambda what, done: None,
    what: str = "",
) -> None:
    cross = () if package_tree.native() == "arm64" else ("CROSS_COMPILE=aarch64-linux-gnu-",)
    argv = ["make", "-C", "/source", "O=/build", "ARCH=arm64", *cross, f"-j{os.cpu_count()}"]
    argv += ["KCONFIG_ALLCONFIG=/build/lab.config", target]
    log = work / f"{target}.log"
    with log.open("w") as output, _entered(root, source, work, *argv) as process:
        assert process.stdout is not None
        for count, line in enumerate(process.stdout):
            output.write(line)
            progress(what, min(count / _STEPS, 0.99))
    if process.returncode:
        raise PyvmmError(f"make {target} failed: {_last(log.read_text())}; its output is {log}")


def _entered(root: Path, source: Path, work: Path, *argv: str) -> "subprocess.Popen[str]":
    mapped = ["--map-root-user"] if os.geteuid() else []
    unshare = ["unshare", "--mount", *mapped, "sh", "-c", _ENTER, "sh"]
    return subprocess.Popen(
        [*unshare, root, source.resolve(), work, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _enter(root: Path, source: Path, work: Path, *argv: str) -> "subprocess.CompletedProcess[str]":
    with _entered(root, source, work, *argv) as process:
        output, _ = process.communicate()
    return subprocess.CompletedProcess(argv, process.returncode, output)


def _is_built(name: str, place: Path) -> bool:
    """Is the kernel there, and as it would be built now? One of a source of yours is as it is."""
    if name != "lab" and not _series(name):
        return place.exists()
    used = place / FRAGMENT.name
    return used.exists() and used.read_text() == FRAGMENT.read_text()


def _install(image: Path, place: Path) -> None:
    """Put an image in its place in the cache, whole, in one step, then what it was made by."""
    place.mkdir(parents=True, exist_ok=True)
    partial = place / ".partial-Image"
    shutil.copy(image, partial)
    partial.rename(place / "Image")
    shutil.copy(FRAGMENT, place)


def _last(text: str) -> str:
    """The line that says what went wrong, or the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    errors = [line for line in lines if "error:" in line or "Error" in line]
    return (errors or lines)[-1] if not errors else errors[0]
