# SPDX-License-Identifier: GPL-2.0-only
"""Mutated inputs for every parser: each is read, or rejected with a documented exception.

A batch gives inputs to each parser. An input that executes code of pyvmm that no earlier one of the
batch did is mutated further.
"""

import contextlib
import functools
import io
import os
import random
import signal
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

from pyvmm.errors import PyvmmError
from tests.campaign import block_coverage
from tests.campaign.campaign import Campaign
from tests.campaign.mutation import Mutator, minimized
from tests.campaign.parsers import PARSERS, Parser

_PER_PARSER, _PER_BATCH = 100_000, 5_000
_LIMIT = 20  # seconds for one input
_IN_MEMORY = "/dev/shm"


class HungError(Exception):
    """A parser did not end in time."""


def _raise_hung(number: int, frame: object) -> None:
    raise HungError(f"not parsed after {_LIMIT} s")


def _run(runs: range) -> Iterator[str]:
    signal.signal(signal.SIGALRM, _raise_hung)
    with tempfile.TemporaryDirectory(dir=_IN_MEMORY) as directory:
        os.environ["XDG_CACHE_HOME"] = f"{directory}/cache"
        path = Path(directory) / "smaps"
        for number, (name, parser) in enumerate(PARSERS.items()):
            count = len(runs) // len(PARSERS) + (number < len(runs) % len(PARSERS))
            for text in failures(parser, count, random.Random(f"{name} {runs.start}"), path):
                yield f"{name}: {text}"


def failures(parser: Parser, count: int, chance: random.Random, path: Path) -> Iterator[str]:
    """Give `count` inputs to a parser; yield one input for each kind of failure."""
    mutator = Mutator(parser.seeds, chance, is_json=parser.is_json)
    kinds = set()
    block_coverage.clear()
    for data in parser.seeds:
        failure(parser, data, path)
    executed = block_coverage.executed()
    for _ in range(count):
        data = mutator.input()
        found = failure(parser, data, path)
        if found and found[0] not in kinds:
            kinds.add(found[0])
            data = minimized(data, functools.partial(_fails_as, found[0], parser, path))
            if found := failure(parser, data, path):
                yield f"{data[:200]!r}: {found[1]}"
        if block_coverage.has_changed(executed):
            executed = block_coverage.executed()
            mutator.keep(data)


def _fails_as(kind: str, parser: Parser, path: Path, data: bytes) -> bool:
    found = failure(parser, data, path)
    return found is not None and found[0] == kind


def failure(parser: Parser, data: bytes, path: Path) -> tuple[str, str] | None:
    """Give an input to a parser; return the kind and the text of its failure, or None."""
    if parser.is_file:
        path.write_bytes(data)
    signal.setitimer(signal.ITIMER_REAL, _LIMIT)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            parser.parse(data, path)
    except Exception as error:
        if isinstance(error, (PyvmmError, *parser.rejects)) and "\n" not in str(error):
            return None
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error)} {place.filename}:{place.lineno}", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


CAMPAIGN = Campaign(
    runs=_PER_PARSER * len(PARSERS),
    short=500 * len(PARSERS),
    batch=_PER_BATCH * len(PARSERS),
    limit=3600,
    run=_run,
    is_flat=False,
    is_guided=True,
)
