# SPDX-License-Identifier: GPL-2.0-only
"""``pytest --lab`` on two boards: at once, compared with one after the other."""

import subprocess
import sys
import time
from collections.abc import Iterator

from tests.bench._measure import Figure, medians

ROUNDS = 3
_PYTEST = [sys.executable, "-m", "pytest", "-q", "--lab", "--lab-kernel", "lab"]
_BOARDS = ["--lab-cpu", "max", "--lab-cpu", "neoverse-n1"]
_TESTS = ["tests/kvm/exits", "tests/faults/test_remedies.py"]


def main() -> Iterator[Figure]:
    seconds = medians(
        {
            "two boards, one after the other": lambda: _time([]),
            "two boards at once": lambda: _time(["-n", "2", "--dist", "loadgroup"]),
        },
        ROUNDS,
    )
    for name, value in seconds.items():
        yield Figure(name, value, "s")
    serial, parallel = seconds.values()
    yield Figure("at once / one after the other", parallel / serial, goal=1 / 1.6)


def _time(options: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([*_PYTEST, *_BOARDS, *options, *_TESTS], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start
