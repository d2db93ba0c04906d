# SPDX-License-Identifier: GPL-2.0-only
"""A process that imports pyvmm, compared with one that imports ctypes and mmap."""

import subprocess
import sys
import time
from collections.abc import Iterator

from tests.bench._measure import medians

ROUNDS = 25


def main() -> Iterator[str]:
    seconds = medians(
        {
            "import pyvmm": lambda: _time("import pyvmm"),
            "import ctypes, mmap": lambda: _time("import ctypes, mmap"),
            "import pyvmm.kvm": lambda: _time("import pyvmm.kvm"),
        },
        ROUNDS,
    )
    for name, value in seconds.items():
        yield f"{name:<20} {value * 1e3:6.1f} ms"
    ratio = seconds["import pyvmm"] / seconds["import ctypes, mmap"]
    yield f"import pyvmm / import ctypes, mmap: {ratio:.2f} (goal: 1.5)"


def _time(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start
