# SPDX-License-Identifier: GPL-2.0-only
"""``lab run -- caps``, against the same QEMU booting the same kernel into a power-off."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pyvmm.lab import build, host, initramfs, qemu
from tests.bench._rounds import medians

ROUNDS = 7
_POWER_OFF = "#!/bin/busybox sh\n/bin/busybox poweroff -f\n"


def main() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as scratch:
        prepared = host.prepare(
            qemu.find(_quiet), build.find("lab", _quiet), qemu.Machine(), _quiet
        )
        boot = _boot(prepared, Path(scratch))
        caps = [sys.executable, "-m", "pyvmm", "lab", "run", "--kernel", "lab", "--", "caps"]
        _time(caps)  # compiles what has changed
        took = medians({"boot": lambda: _time(boot), "caps": lambda: _time(caps)}, ROUNDS)
    yield f"boot into power-off  {took['boot']:6.2f} s"
    yield f"lab run -- caps      {took['caps']:6.2f} s"
    yield f"ratio: {took['caps'] / took['boot']:.2f} (aim: at most 1.8)"


def _boot(prepared: host.Host, scratch: Path) -> list[str]:
    """QEMU's command for the prepared machine and kernel, and nothing to do in it."""
    init = scratch / "init"
    init.write_text(_POWER_OFF)
    initrd = scratch / "initrd"
    initrd.write_bytes(initramfs.start(prepared.busybox, init, ""))
    argv = [*prepared.qemu.command, *prepared.machine.arguments(), "-append", "quiet"]
    return [*argv, "-kernel", str(prepared.kernel.image), "-initrd", str(initrd)]


def _time(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _quiet(what: str, done: float | None) -> None:
    """Tells nobody."""
