# SPDX-License-Identifier: GPL-2.0-only
"""Builds of the lab's kernel from Debian's source or your own tree, with or without a patch.

The compilers come from Debian packages in a chroot directory, so every machine builds with the
same ones. Because the paths in it never change, make can build a variant from a copy of the
objects, and compiles only the files that a patch changes.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pyvmm.errors import PyvmmError, UsageError
from pyvmm.lab import build_chroot, cache, kernel, kernel_config, kernel_source, package_tree
from pyvmm.lab.apt import Progress, no_progress

CPU_MINUTES = 19  # of a full build, measured on a busy machine
_STEPS = 1550  # lines that make prints in a full build


def build(
    name: str,
    progress: Progress,
    *,
    source: Path | None = None,
    patch: Path | None = None,
    changes: Sequence[str] = (),
) -> None:
    """Build the kernel ``lab`` or ``lab:VARIANT`` into the cache.

    Without `source`, build Debian's newest source of `kernel_source.SERIES`, or of the series that
    the variant names ("lab:7.2"), unless the cached kernel has the current configuration. With
    `source`, always run make. `patch` is applied to a copy of the source. `changes` are lines of
    configuration on top of the lab's.

    Raises `UsageError` for an invalid name, source or patch, `LackingError` if something is
    missing, and `PyvmmError` if Kconfig drops a change or the build fails.
    """
    variant = kernel.directory(name)
    path = kernel.store() / variant
    work = cache.root() / "build" / variant
    fragment = kernel_config.variant(name, changes)
    if source is None and patch is None and _is_built(name, path, fragment, bool(changes)):
        return
    if source is not None and not (source / "arch/arm64/Kconfig").exists():
        raise UsageError(f"{source} is not a kernel source tree: it has no arch/arm64/Kconfig")
    root = package_tree.build_root(progress)
    with cache.lock(work):
        original = source or kernel_source.for_kernel(kernel_source.series(name), progress)
        if patch is not None:
            work.mkdir(exist_ok=True)
            original = _patched(root, original, patch, work)
        elif changes and not (source or kernel_source.series(name) or work.exists()):
            _copy_objects(work)
        work.mkdir(exist_ok=True)
        _configure(root, original, work, fragment, changes)
        minutes = -(-CPU_MINUTES // (os.cpu_count() or 1))
        _make(root, original, work, "Image", progress, f"building {name} (about {minutes} minutes)")
        _install(work / "arch/arm64/boot/Image", fragment, path)


def find_or_build(name: str | None, progress: Progress) -> kernel.Kernel:
    """Return kernel `name` (see `kernel.find`), after building it if necessary."""
    if (found := kernel.find(name, progress)) is None:
        assert name is not None
        build(name, progress)
        found = kernel.find(name, progress)
    assert found is not None
    return found


def _patched(root: Path, source: Path, patch: Path, work: Path) -> Path:
    """Return a patched copy of the source, and fill `work` with the unpatched objects."""
    if not patch.is_file():
        raise UsageError(f"patch {patch} not found")
    digest = hashlib.sha256(patch.read_bytes()).hexdigest()[:8]
    copy = work.with_name(f"{work.name}-source-{digest}")
    with cache.create(copy) as partial:
        if partial is not None:
            for old in work.parent.glob(f"{work.name}-source-*"):
                cache.remove(old)
            # Hard links need no space, and patch(1) replaces a file instead of writing to it.
            subprocess.run(["cp", "-al", source, partial], check=True)
            # make would consider objects of an earlier patch newer than their sources.
            cache.remove(work)
            _copy_objects(work)
            work.mkdir(exist_ok=True)
            shutil.copy(patch, work / "variant.patch")
            argv = ["patch", "-p1", "--batch", "-d", "/source", "-i", "/build/variant.patch"]
            done = build_chroot.run(root, partial, work, *argv)
            if done.returncode:
                reason = build_chroot.error_line(done.stdout)
                raise PyvmmError(f"{patch} does not apply to {source.name}: {reason}")
    return copy


def _copy_objects(work: Path) -> None:
    """Start from the objects of the kernel ``lab``, if they exist."""
    if (base := work.with_name("lab")).exists():
        subprocess.run(["cp", "-a", base, work], check=True)


def _configure(root: Path, source: Path, work: Path, fragment: str, changes: Sequence[str]) -> None:
    """Run ``make allnoconfig`` with the fragment, unless its options are unchanged."""
    used, result = work / "lab.config", work / ".config"
    if result.exists() and _options(used) == kernel_config.options(fragment):
        return
    used.write_text(fragment)
    _make(root, source, work, "allnoconfig")
    if missing := {"CONFIG_KVM=y", "CONFIG_VIRTIO_MMIO=y"} - set(_options(result)):
        raise PyvmmError(f"Kconfig of {source} drops {', '.join(sorted(missing))}: is it Linux?")
    if dropped := kernel_config.dropped(changes, result.read_text()):
        used.unlink()
        raise PyvmmError(f"Kconfig drops {', '.join(dropped)}: add the options that it depends on")


def _make(
    root: Path,
    source: Path,
    work: Path,
    target: str,
    progress: Progress = no_progress,
    step: str = "",
) -> None:
    cross = () if package_tree.native() == "arm64" else ("CROSS_COMPILE=aarch64-linux-gnu-",)
    argv = ["make", "-C", "/source", "O=/build", "ARCH=arm64", *cross, f"-j{os.cpu_count()}"]
    argv += ["KCONFIG_ALLCONFIG=/build/lab.config", target]
    log = work / f"{target}.log"
    with log.open("w") as output, build_chroot.popen(root, source, work, *argv) as process:
        assert process.stdout is not None
        for count, line in enumerate(process.stdout):
            output.write(line)
            progress(step, min(count / _STEPS, 0.99))
    if process.returncode:
        raise PyvmmError(
            f"make {target} failed: {build_chroot.error_line(log.read_text())}; see {log}"
        )


def _is_built(name: str, path: Path, fragment: str, changed: bool) -> bool:
    """Return True if the kernel is built with the options of `fragment`.

    A kernel of your own source, patch or options may have any, unless you now pass others.
    """
    if not cache.is_intact(path):
        return False
    if not (
        changed or name == "lab" or name in kernel_config.PAGE_SIZES or kernel_source.series(name)
    ):
        return True
    return _options(path / kernel_config.FRAGMENT.name) == kernel_config.options(fragment)


def _options(config: Path) -> list[str]:
    """Return the options of a kernel configuration; none if it does not exist."""
    return kernel_config.options(config.read_text()) if config.exists() else []


def _install(image: Path, fragment: str, path: Path) -> None:
    """Copy an image and its configuration to the cache."""
    with cache.create(path, replace=True) as partial:
        assert partial is not None
        partial.mkdir()
        shutil.copy(image, partial / "Image")
        (partial / kernel_config.FRAGMENT.name).write_text(fragment)
