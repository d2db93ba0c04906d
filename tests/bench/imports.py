# SPDX-License-Identifier: GPL-2.0-only
"""A process that imports pyvmm, compared with one that imports ctypes and mmap."""

import subprocess
import sys
import time
from collections.abc import Iterator

from tests.bench._measure import Figure, medians

ROUNDS = 25


def main() -> Iterator[Figure]:
    seconds = medians(
        {
            "import pyvmm": lambda: _time("import pyvmm"),
            "import ctypes, mmap": lambda: _time("import ctypes, mmap"),
            "import pyvmm.kvm": lambda: _time("import pyvmm.kvm"),
        },
        ROUNDS,
    )
    for name, value in seconds.items():
        yield Figure(name, value * 1e3, "ms")
    ratio = seconds["import pyvmm"] / seconds["import ctypes, mmap"]
    yield Figure("import pyvmm / import ctypes, mmap", ratio, goal=1.5)


def _time(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start
