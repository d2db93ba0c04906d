# SPDX-License-Identifier: GPL-2.0-only
"""Commands in the chroot directory of the compilers, with a source and a directory for objects.

The source is always mounted at ``/source`` and the objects at ``/build``, so objects can be copied
to the directory of another build.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ENTER = """\
set -e
root=$1; shift
mount --bind "$1" "$root/source"; shift
mount --bind "$1" "$root/build"; shift
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
exec setpriv --pdeathsig TERM nice chroot "$root" /usr/bin/env -i PATH=/usr/bin LC_ALL=C "$@"
"""


@contextmanager
def popen(root: Path, source: Path, work: Path, *argv: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a command in `root`, with its output in a pipe; end it if the block raises."""
    mapped = ["--map-root-user"] if os.geteuid() else []
    unshare = ["unshare", "--mount", *mapped, "sh", "-c", _ENTER, "sh"]
    with subprocess.Popen(
        [*unshare, root, source.resolve(), work, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        except BaseException:
            process.terminate()  # each program of `_ENTER` replaces the one before: make gets it
            raise


def run(root: Path, source: Path, work: Path, *argv: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in `root` and return its status and output."""
    with popen(root, source, work, *argv) as process:
        output, _ = process.communicate()
    return subprocess.CompletedProcess(argv, process.returncode, output)


def error_line(output: str) -> str:
    """Return the first error in make's output, or the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or [""]
    return next((line for line in lines if "error:" in line or "Error" in line), lines[-1])
