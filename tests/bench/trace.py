# SPDX-License-Identifier: GPL-2.0-only
"""A VMM's exits under ``trace --summary``, under strace, and with no one watching.

The VMM is pyvmm, and tells how long its run loop took: what it takes to start is left out.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench._rounds import medians

EXITS, ROUNDS = 100_000, 3

_VMM = [sys.executable, "-m", "tests.bench._exits_vmm", str(EXITS)]
_TRACE = [sys.executable, "-m", "pyvmm", "trace", "--summary"]
_STRACE = ["strace", "-f", "-e", "trace=ioctl", "-e", "kvm=vcpu"]


def main() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        output = str(Path(directory) / "trace")

        def each(*tracer: str) -> Callable[[], float]:
            return lambda: _time(tracer)

        took = medians(
            {
                "untraced": each(),
                "trace --summary": each(*_TRACE, "-o", output, "--"),
                "strace": each(*_STRACE, "-o", output),
                "strace --seccomp-bpf": each(*_STRACE, "--seccomp-bpf", "-o", output),
            },
            ROUNDS,
        )
    for name, seconds in took.items():
        yield f"{name:<20} {seconds / EXITS * 1e6:6.2f} µs an exit"
    for name in ("strace", "strace --seccomp-bpf", "untraced"):
        aim = " (aim: at most 1)" if name != "untraced" else ""
        yield f"trace / {name}: {took['trace --summary'] / took[name]:.2f}{aim}"


def _time(tracer: tuple[str, ...]) -> float:
    run = subprocess.run([*tracer, *_VMM], capture_output=True, text=True, check=True)
    return float(run.stdout)
