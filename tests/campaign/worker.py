# SPDX-License-Identifier: GPL-2.0-only
"""Run a part of a campaign, and print a JSON line per batch.

It is a process of its own because a failure may end it or make it hang::

    python -m tests.campaign.worker NAME FIRST STOP
"""

import contextlib
import gc
import signal
import sys
import time
import traceback
from collections.abc import Iterator

from tests.campaign.campaign import Batch
from tests.campaign.registry import CAMPAIGNS
from tests.process import Footprint, footprint

_GROWTH = 512  # pages of RSS that batches may differ by: Python's allocator returns memory late


def batches(name: str, first: int, stop: int) -> Iterator[Batch]:
    """Run a campaign from run `first` to `stop` and yield its batches."""
    campaign = CAMPAIGNS[name]
    before: Footprint | None = None
    for start in range(first, stop, campaign.batch):
        runs = range(start, min(start + campaign.batch, stop))
        failures: list[str] = []
        began = time.monotonic()
        try:
            failures.extend(campaign.run(runs))
        except Exception:
            failures.append(traceback.format_exc())
        seconds = time.monotonic() - began
        gc.collect()
        now = footprint()
        if campaign.is_flat and before:
            failures.extend(_growth(before, now))
        else:
            before = now  # the first batch loads modules and fills caches
        yield Batch(runs.start, runs.stop, failures, round(seconds, 3))


def _growth(before: Footprint, now: Footprint) -> Iterator[str]:
    if now[:3] != before[:3] or now.resident > before.resident + _GROWTH:
        yield f"the process grew from {before} to {now}"


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    name, first, stop = sys.argv[1:]
    with contextlib.suppress(BrokenPipeError):
        for batch in batches(name, int(first), int(stop)):
            sys.stdout.write(batch.to_line())
            sys.stdout.flush()
