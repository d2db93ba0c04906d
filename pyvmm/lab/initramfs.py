# SPDX-License-Identifier: GPL-2.0-only
"""The initial RAM file system of the emulated host.

It is several concatenated archives: the kernel modules, which are packed only once, the compiled
Python, and a small archive for the current run.
"""

from collections.abc import Sequence
from pathlib import Path

from pyvmm.cpio import CpioArchive


def boot_archive(busybox: Path, init: Path, job: str, files: Sequence[Path] = ()) -> bytes:
    """Return the archive that starts a run.

    It contains busybox, `init` as ``/init``, the shell text `job` as ``/job``, and `files`.
    """
    archive = CpioArchive()
    for name in ("bin", "dev", "proc", "sys", "host", "files"):
        archive.directory(name)
    archive.device("dev/console", 5, 1)
    archive.file("bin/busybox", busybox.read_bytes(), executable=True)
    archive.file("init", init.read_bytes(), executable=True)
    archive.file("job", job.encode())
    for file in files:
        archive.file(f"files/{file.name}", file.read_bytes())
    return archive.to_bytes()
