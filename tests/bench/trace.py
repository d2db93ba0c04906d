# SPDX-License-Identifier: GPL-2.0-only
"""A VMM's exits under ``trace --summary``, under strace, and untraced.

The VMM is pyvmm. It prints how long its run loop medians_, so its start is not included.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench._measure import Figure, medians

EXITS, ROUNDS = 100_000, 3

_VMM = [sys.executable, "-m", "tests.exits_vmm", str(EXITS)]
_TRACE = [sys.executable, "-m", "pyvmm", "trace", "--summary"]
_STRACE = ["strace", "-f", "-e", "trace=ioctl", "-e", "kvm=vcpu"]


def main() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as directory:
        output = str(Path(directory) / "trace")

        def each(*tracer: str) -> Callable[[], float]:
            return lambda: _time(tracer)

        seconds = medians(
            {
                "untraced": each(),
                "trace --summary": each(*_TRACE, "-o", output, "--"),
                "strace": each(*_STRACE, "-o", output),
                "strace --seccomp-bpf": each(*_STRACE, "--seccomp-bpf", "-o", output),
            },
            ROUNDS,
        )
    for name, value in seconds.items():
        yield Figure(name, value / EXITS * 1e6, "µs per exit")
    for name in ("strace", "strace --seccomp-bpf", "untraced"):
        goal = 1 if name != "untraced" else None
        yield Figure(f"trace / {name}", seconds["trace --summary"] / seconds[name], goal=goal)


def _time(tracer: tuple[str, ...]) -> float:
    run = subprocess.run([*tracer, *_VMM], capture_output=True, text=True, check=True)
    return float(run.stdout)
