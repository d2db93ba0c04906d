# SPDX-License-Identifier: GPL-2.0-only
"""Kernels for the emulated host: Debian's, the lab's, or your own Image or build tree.

The drivers that the lab needs to start are modules in a Debian kernel: they are packed into the
initial RAM file system with their dependencies. In the lab's kernel and in yours they must be
built in.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pyvmm import kernel_image
from pyvmm.errors import LackingError, UsageError
from pyvmm.lab import cache, kernel_modules
from pyvmm.lab.apt import RELEASE, Apt, Progress, unpack

NAMES = (
    "lab, lab:16k and lab:64k (of that page size), lab:VARIANT, debian, debian:VERSION, "
    "debian:VERSION-16k, or the path of an Image or build tree"
)
# Debian's flavour with 16 KiB pages: in the name of a package it follows the architecture.
_16K = "-16k"
_MODULES = "modules.wanted"  # the names of the modules in a cached Debian kernel
_PACKAGE = r"linux-(?P<kind>image|binary|modules)-(?P<number>\d.*)-arm64(?P<flavour>-16k)?"


@dataclass(frozen=True)
class Kernel:
    """A kernel: its name, its image, and its modules as a cpio archive, if it needs any."""

    name: str
    image: Path
    modules: Path | None = None


@dataclass(frozen=True)
class OfferedKernel:
    """A kernel of the lab or of Debian's mirror, cached or not.

    Attributes:
        name: for ``--kernel``.
        page_size: in bytes.
        modules: False if the mirror lacks the modules that a kernel of Debian needs.
    """

    name: str
    page_size: int
    modules: bool
    cached: bool


def store() -> Path:
    """Return the directory of the cached kernels; each is a subdirectory."""
    return cache.root() / "kernels"


def find(name: str | None, progress: Progress) -> Kernel | None:
    """Return kernel `name`, or None if it is a kernel of the lab that is not built yet.

    A Debian kernel is downloaded if necessary. The default is the lab's kernel if it is built,
    otherwise the newest kernel in Debian's backports. Raises `UsageError` for an invalid name,
    `LackingError` if the kernel cannot be downloaded.
    """
    if name is None:
        return find("lab", progress) or _debian("", progress)
    kind, _, version = name.partition(":")
    if kind == "debian":
        return _debian(version, progress)
    if kind == "lab":
        place = store() / directory(name)
        if not place.exists():
            return None
        if not cache.is_intact(place):
            raise LackingError(
                f"the kernel {name} in the cache is damaged: build it again with lab setup "
                f"--kernel {name}, and the --source or --patch that you built it with"
            )
        return _load(place.name)
    return _of_path(Path(name))


def offered(progress: Progress) -> list[OfferedKernel]:
    """Return the lab's kernels, and those of Debian's mirror in order of their numbers."""
    page_sizes = {"lab": 4 << 10, "lab:16k": 16 << 10, "lab:64k": 64 << 10}
    variants = [path.name.replace("-", ":", 1) for path in store().glob("lab-*")]
    kernels = [
        OfferedKernel(
            name, page_sizes.get(name, 4 << 10), True, (store() / directory(name)).exists()
        )
        for name in dict.fromkeys((*page_sizes, *sorted(variants)))
    ]
    complete, without_modules = _offered(Apt("arm64", progress))
    usable = [each for each in complete | without_modules if _matches(each, _flavour(each))]
    for release in sorted(usable, key=lambda each: (_order(each), each)):
        page_size = (16 if _flavour(release) else 4) << 10
        cached = _is_complete(store() / f"debian-{release}")
        name = f"debian:{release}"
        kernels.append(OfferedKernel(name, page_size, release in complete, cached))
    return kernels


def directory(name: str) -> str:
    """Return the cache directory's name for ``lab`` or ``lab:VARIANT``. Raises `UsageError`."""
    if not re.fullmatch(r"lab(:\w[\w.+-]*)?", name):
        raise UsageError(f"cannot build a kernel named {name!r}: pass lab or lab:VARIANT")
    return name.replace(":", "-")


def _of_path(path: Path) -> Kernel:
    image = path / "arch/arm64/boot/Image" if path.is_dir() else path
    if not image.is_file():
        raise UsageError(f"kernel {str(path)!r} not found: pass {NAMES}")
    kernel_image.check(image)
    return Kernel(str(path), image.resolve())


def _debian(version: str, progress: Progress) -> Kernel:
    cached = [path.name[7:] for path in store().glob("debian-*") if _is_complete(path)]
    if found := [release for release in cached if _matches(release, version)]:
        return _load(f"debian-{max(found, key=_order)}")
    apt = Apt("arm64", progress)
    if not (wanted := version):
        offers = apt.versions("linux-image-arm64")
        newest = [offer.version for offer in offers if offer.release == f"{RELEASE}-backports"]
        if not newest:
            raise LackingError(
                f"Debian's mirror has no arm64 kernel in {RELEASE}-backports{apt.omitted()}"
            )
        wanted = newest[0].split("-")[0]
    complete, without_modules = _offered(apt)
    if not (found := [release for release in complete if _matches(release, wanted)]):
        lacks = any(_matches(release, wanted) for release in without_modules)
        raise LackingError(
            f"Debian's mirror has no {'modules of the ' if lacks else ''}arm64 kernel {wanted}"
            f"{apt.omitted()}: pass one of debian:{', debian:'.join(_series(complete, wanted))}"
        )
    return _fetch(max(found, key=_order), apt, progress)


def _is_complete(path: Path) -> bool:
    """Return True if a cached Debian kernel is intact and has the modules of `kernel_modules`.

    Another version of pyvmm may have packed fewer modules, or more.
    """
    wanted = path / _MODULES
    return (
        cache.is_intact(path)
        and wanted.exists()
        and set(wanted.read_text().split()) >= set(kernel_modules.WANTED)
    )


def _offered(apt: Apt) -> tuple[set[str], set[str]]:
    """Return the mirror's releases that have their modules, and those that do not.

    A release is what ``uname -r`` prints, without the architecture: "7.2.12+deb13-16k". A newer
    one has its image and its modules in packages of their own, and the mirror may have dropped the
    modules.
    """
    packages: dict[str, set[str]] = {"image": set(), "binary": set(), "modules": set()}
    for name in apt.names(r"^linux-(image|binary|modules)-[0-9].*arm64(-16k)?$"):
        if match := re.fullmatch(_PACKAGE, name):
            packages[match["kind"]].add(match["number"] + (match["flavour"] or ""))
    without_modules = packages["binary"] - packages["modules"]
    return packages["image"] - without_modules, without_modules


def _series(releases: Collection[str], version: str) -> list[str]:
    """Return the series ("6.1", "6.12", …) of the releases with the flavour of `version`."""
    flavour = _flavour(version)
    numbers = {tuple(_order(each)[:2]) for each in releases if _matches(each, flavour)}
    return [f"{major}.{minor}{flavour}" for major, minor in sorted(numbers)]


def _flavour(version: str) -> str:
    return _16K if version.endswith(_16K) else ""


def _matches(release: str, version: str) -> bool:
    """Return True if `release` ("6.12.95+deb12") belongs to `version` ("6.12").

    "6.12.95+deb12-16k" belongs to "6.12-16k". Releases with another flavour ("6.12.95+deb12-rt")
    never match.
    """
    flavour = _flavour(version)
    number = re.escape(version.removesuffix(flavour)) or r"\d+"
    return bool(re.fullmatch(rf"{number}(\.\d+)*(-\d+)?(\+deb[\d.]+)?{flavour}", release))


def _order(release: str) -> list[int]:
    """Return a sort key that compares release numbers as numbers."""
    return [int(number) for number in re.findall(r"\d+", release.removesuffix(_16K))]


def _fetch(version: str, apt: Apt, progress: Progress) -> Kernel:
    """Download and unpack a Debian kernel, and pack its modules."""
    name, flavour = f"debian-{version}", _flavour(version)
    release = f"{version.removesuffix(flavour)}-arm64{flavour}"
    path = store() / name
    with cache.create(path, replace=not _is_complete(path)) as partial:
        if partial is not None:
            # Newer releases package the image and the modules separately.
            parts = apt.names(rf"^linux-(binary|modules)-{re.escape(release)}$")
            archives = apt.fetch(*(parts or [f"linux-image-{release}"]), dependencies=False)
            unpacked = partial / "unpacked"
            unpack(archives, unpacked, progress=progress)
            progress(f"preparing the kernel {version}", None)
            installed = unpacked / "usr/lib/modules" / release
            images = (installed / "vmlinuz", unpacked / f"boot/vmlinuz-{release}")
            next(image for image in images if image.exists()).rename(partial / "Image")
            (partial / "modules.cpio").write_bytes(kernel_modules.archive(installed))
            packed = (*kernel_modules.WANTED, *kernel_modules.FOR_GUESTS)
            (partial / _MODULES).write_text("\n".join(packed))
            cache.remove(unpacked)
            for archive in archives:
                archive.unlink()
    return _load(name)


def _load(name: str) -> Kernel:
    modules = store() / name / "modules.cpio"
    return Kernel(name, store() / name / "Image", modules if modules.exists() else None)
