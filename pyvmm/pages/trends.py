# SPDX-License-Identifier: GPL-2.0-only
"""The figures of several benchmark runs, as line charts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pyvmm.pages.documents import Document

WIDTH, HEIGHT = 320, 90  # of the plot
_MARGIN = 12


@dataclass(frozen=True)
class Point:
    """A value at a position of the chart, measured by the run `label`."""

    x: int
    y: int
    value: float
    label: str


@dataclass(frozen=True)
class Figure:
    """A measured figure over the runs; a run without it has no point."""

    benchmark: str
    name: str
    unit: str
    points: tuple[Point, ...]
    goal: float | None = None
    goal_y: int | None = None

    @property
    def change(self) -> str:
        """Return the last value relative to the first, or "" for a single one."""
        first, last = self.points[0].value, self.points[-1].value
        return f"{last / first - 1:+.0%}" if len(self.points) > 1 and first else ""


def trends(documents: Sequence[Document]) -> list[Figure]:
    """Return the figures in the order in which they first appear."""
    found: dict[tuple[str, str, str], dict[int, float]] = {}
    goals: dict[tuple[str, str, str], float] = {}
    for number, document in enumerate(documents):
        for figure in document["figures"]:
            key = (figure["benchmark"], figure["name"], figure["unit"])
            value = float(figure["value"])
            if not math.isfinite(value):
                raise ValueError(f"{figure['name']} is {value}")
            found.setdefault(key, {})[number] = value
            if figure.get("goal") is not None:
                goals[key] = float(figure["goal"])
    labels = [f"{document['date']} {document['revision'] or ''}".strip() for document in documents]
    return [_figure(*key, values, goals.get(key), labels) for key, values in found.items()]


def _figure(
    benchmark: str,
    name: str,
    unit: str,
    values: dict[int, float],
    goal: float | None,
    labels: Sequence[str],
) -> Figure:
    top = max(*values.values(), goal or 0, 0.0) or 1.0

    def y(value: float) -> int:
        return round(_MARGIN + (HEIGHT - 2 * _MARGIN) * (1 - min(max(value / top, 0), 1)))

    step = (WIDTH - 2 * _MARGIN) / max(len(labels) - 1, 1)
    points = tuple(
        Point(round(_MARGIN + step * number), y(value), value, labels[number])
        for number, value in values.items()
    )
    return Figure(benchmark, name, unit, points, goal, None if goal is None else y(goal))
