# SPDX-License-Identifier: GPL-2.0-only
"""``lab run -- caps``, compared with the same QEMU that boots the same kernel and powers off.

The rows between show the shares of the lab, of Python's start and of pyvmm.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pyvmm.lab import host, initramfs, kernel_build, qemu
from tests.bench._measure import Figure, medians

ROUNDS = 7
_LAB = [sys.executable, "-m", "pyvmm", "lab"]
_KERNEL = ["--kernel", "lab", "--"]
_POWER_OFF = "#!/bin/busybox sh\n/bin/busybox poweroff -f\n"


def main() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as scratch:
        prepared = host.prepare(
            qemu.find(_quiet),
            kernel_build.find_or_build("lab", _quiet),
            qemu.EmulatedMachine(),
            _quiet,
        )
        boot = _boot(prepared, Path(scratch))
        seconds = medians(
            {
                "boot and power off": lambda: _time(boot),
                "lab shell -- true": lambda: _time([*_LAB, "shell", *_KERNEL, "true"]),
                "lab shell -- python3 -c pass": lambda: _time(
                    [*_LAB, "shell", *_KERNEL, "python3", "-c", "pass"]
                ),
                "lab run -- caps": lambda: _time([*_LAB, "run", *_KERNEL, "caps"]),
            },
            ROUNDS,
        )
    boot_alone = seconds["boot and power off"]
    for name, value in seconds.items():
        yield Figure(name, value, "s")
    yield Figure("lab run -- caps / boot", seconds["lab run -- caps"] / boot_alone, goal=1.8)


def _boot(prepared: host.Host, scratch: Path) -> list[str]:
    """Return the QEMU command that boots the prepared machine and kernel and powers off."""
    init = scratch / "init"
    init.write_text(_POWER_OFF)
    initrd = scratch / "initrd"
    initrd.write_bytes(initramfs.boot_archive(prepared.busybox, init, ""))
    argv = [*prepared.qemu.command, *prepared.machine.arguments(), "-append", "quiet"]
    return [*argv, "-kernel", str(prepared.kernel.image), "-initrd", str(initrd)]


def _time(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _quiet(what: str, done: float | None) -> None:
    """Report no progress."""
