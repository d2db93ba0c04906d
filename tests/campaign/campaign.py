# SPDX-License-Identifier: GPL-2.0-only
"""A campaign, and its state: a file of JSON lines, one per batch, so that it can be resumed."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Campaign:
    """A test that runs many times, in batches. Run N is the same in every campaign.

    Attributes:
        runs: the number of runs; `short` is that of the short form.
        batch: the number of runs after which the state is saved.
        limit: the time in seconds after which a batch counts as hung.
        run: runs the given numbers and yields a text per failure.
        lab: the options of ``lab shell`` for a campaign that needs the emulated host, else empty.
        is_flat: True if the process must not grow between batches.
        is_guided: True if the worker records which blocks of pyvmm run (`block_coverage`).
    """

    runs: int
    short: int
    batch: int
    limit: float
    run: Callable[[range], Iterator[str]]
    lab: tuple[str, ...] = ()
    is_flat: bool = True
    is_guided: bool = False


@dataclass(frozen=True)
class Batch:
    """The result of runs `first` to `stop` (exclusive), which took `seconds`."""

    first: int
    stop: int
    failures: list[str]
    seconds: float

    def to_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def of_line(cls, line: str) -> "Batch":
        return cls(**json.loads(line))


def read(state: Path) -> Iterator[Batch]:
    """Yield the recorded batches. An incomplete last line, as a kill leaves it, is cut off."""
    if not state.exists():
        return
    complete, newline, _ = state.read_text().rpartition("\n")
    state.write_text(complete + newline)
    for line in complete.splitlines():
        yield Batch.of_line(line)
