# SPDX-License-Identifier: GPL-2.0-only
"""Figures, medians of interleaved measurements, and C functions to compare with."""

import ctypes
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A measured `value`; a ratio has no `unit`. `goal` is the largest value wanted."""

    name: str
    value: float
    unit: str = ""
    goal: float | None = None

    def __str__(self) -> str:
        goal = f" (goal: {self.goal:g})" if self.goal is not None else ""
        return f"{self.name:<36} {self.value:8.2f} {self.unit}{goal}".rstrip()


def medians(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Measure each contender once per round, and return the median of each."""
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            measured[name].append(measure())
    return {name: median(values) for name, values in measured.items()}


def compile_loop(source: str, *argtypes: Any) -> Callable[..., object]:
    """Compile C code that defines ``void loop(…)``, and return that function."""
    with tempfile.TemporaryDirectory() as directory:
        file, library = Path(directory) / "loop.c", Path(directory) / "loop.so"
        file.write_text(source)
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, file], check=True)
        loop = ctypes.CDLL(str(library)).loop
    loop.argtypes = argtypes
    loop.restype = None
    return loop
