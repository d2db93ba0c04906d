# SPDX-License-Identifier: GPL-2.0-only
"""The kernels a run can have: Debian's own, the lab's, or a file or build tree of yours.

A Debian kernel has in modules what the lab needs to start: those go, with all that they need,
into an archive for the initial RAM file system. The lab's own has everything built in, and so
must one of yours.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pyvmm.errors import LackingError, UsageError
from pyvmm.lab import cache, kernel_modules
from pyvmm.lab.apt import RELEASE, Apt, Progress, unpack

NAMES = "lab, lab:VARIANT, debian, debian:VERSION, or the path of an Image or a build tree"


@dataclass(frozen=True)
class Kernel:
    """A kernel: its name, its image, and its modules' archive where it needs one."""

    name: str
    image: Path
    modules: Path | None = None


def store() -> Path:
    """Where kernels are kept: a directory each."""
    return cache.root() / "kernels"


def find(name: str | None, progress: Progress) -> Kernel | None:
    """The kernel of a name, fetched if it is one of Debian's; None if it has yet to be built.

    Without a name: the lab's own if it has been built, else Debian's newest stable one.
    Raises `UsageError` on a name that means none, `LackingError` where it is not to be had.
    """
    if name is None:
        return find("lab", progress) or _debian("", progress)
    kind, _, version = name.partition(":")
    if kind == "debian":
        return _debian(version, progress)
    if kind == "lab":
        place = store() / directory(name)
        return _load(place.name) if place.exists() else None
    return _of_path(Path(name))


def directory(name: str) -> str:
    """The name in the cache of ``lab`` or ``lab:VARIANT``. Raises `UsageError`."""
    if not re.fullmatch(r"lab(:\w[\w.+-]*)?", name):
        raise UsageError(f"{name!r} names no kernel that can be built: lab or lab:VARIANT")
    return name.replace(":", "-")


def _of_path(path: Path) -> Kernel:
    image = path / "arch/arm64/boot/Image" if path.is_dir() else path
    if not image.is_file():
        raise UsageError(f"there is no kernel {str(path)!r}: it is one of {NAMES}")
    return Kernel(str(path), image.resolve())


def _debian(version: str, progress: Progress) -> Kernel:
    here = [path.name[7:] for path in store().glob("debian-*")]
    if found := [release for release in here if _matches(release, version)]:
        return _load(f"debian-{max(found, key=_order)}")
    apt = Apt("arm64", progress)
    wanted = version or next(
        offer.version.split("-")[0]
        for offer in apt.versions("linux-image-arm64")
        if offer.release == f"{RELEASE}-backports"
    )
    names = apt.names(rf"^linux-image-{re.escape(wanted)}.*arm64$")
    releases = [name.removeprefix("linux-image-").removesuffix("-arm64") for name in names]
    found = [release for release in releases if _matches(release, wanted)]
    if not found:
        raise LackingError(f"Debian's mirror has no arm64 kernel {wanted}")
    return _fetch(max(found, key=_order), apt, progress)


def _matches(release: str, version: str) -> bool:
    """Whether ``release`` ("6.12.95+deb12", but no flavour as "…+deb12-rt") is of a version."""
    plain = r"(\.\d+)*(-\d+)?(\+deb[\d.]+)?"
    return bool(re.fullmatch((re.escape(version) or r"\d+") + plain, release))


def _order(release: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", release)]


def _fetch(version: str, apt: Apt, progress: Progress) -> Kernel:
    """Fetch and unpack one of Debian's kernels, and make its modules ready."""
    name, release = f"debian-{version}", f"{version}-arm64"
    with cache.making(store() / name) as partial:
        if partial is not None:
            # Newer packages keep the image and the modules in packages of their own.
            parts = apt.names(rf"^linux-(binary|modules)-{re.escape(release)}$")
            archives = apt.fetch(*(parts or [f"linux-image-{release}"]), dependencies=False)
            unpacked = partial / "unpacked"
            unpack(archives, unpacked, progress=progress)
            progress(f"preparing the kernel {version}", None)
            ours = unpacked / "usr/lib/modules" / release
            places = (ours / "vmlinuz", unpacked / f"boot/vmlinuz-{release}")
            next(place for place in places if place.exists()).rename(partial / "Image")
            (partial / "modules.cpio").write_bytes(kernel_modules.archive(ours))
            cache.remove(unpacked)
            for archive in archives:
                archive.unlink()
    return _load(name)


def _load(name: str) -> Kernel:
    modules = store() / name / "modules.cpio"
    return Kernel(name, store() / name / "Image", modules if modules.exists() else None)
