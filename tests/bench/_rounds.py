# SPDX-License-Identifier: GPL-2.0-only
"""Rounds of contenders, interleaved."""

from collections.abc import Callable, Mapping
from statistics import median


def medians(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of each contender's measurements, taken in turn."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            taken[name].append(measure())
    return {name: median(values) for name, values in taken.items()}
