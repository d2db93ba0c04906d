# SPDX-License-Identifier: GPL-2.0-only
"""Campaigns: ``python -m tests.campaign [NAME…] [--short] [--resume DIR]``.

Prints progress to stderr and a line of figures per campaign to stdout. The exit status is 1 if
anything failed. The results are kept in DIR; the same command continues after a kill.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.campaign.campaign import Batch, Campaign, read
from tests.campaign.registry import CAMPAIGNS

_BOOT = 1800  # seconds; the first run builds the lab's kernel
_LIMIT_IN_LAB = 7 * 24 * 3600  # seconds for a whole campaign
_LAST_LINES = 12  # of stderr, in the failure of a worker that died


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CAMPAIGNS))
    parser.add_argument("--short", action="store_true", help="the number of runs of `make test`")
    parser.add_argument("--runs", type=int, metavar="N", help="only the first N runs of each")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="keep the state in DIR")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in CAMPAIGNS]:
        parser.error(f"unknown campaign {unknown[0]}: choose from {', '.join(CAMPAIGNS)}")
    directory = options.resume or Path(tempfile.mkdtemp(prefix="pyvmm-campaign-"))
    directory.mkdir(parents=True, exist_ok=True)
    print(f"to resume: --resume {directory}", file=sys.stderr)
    failed = False
    for name in options.names or CAMPAIGNS:
        campaign = CAMPAIGNS[name]
        runs = campaign.short if options.short else campaign.runs
        batches = complete(name, campaign, min(runs, options.runs or runs), directory)
        failures = [text for batch in batches for text in batch.failures]
        for text in failures:
            print(f"{name}: {text.rstrip()}")
        seconds = sum(batch.seconds for batch in batches)
        done = sum(batch.stop - batch.first for batch in batches)
        print(f"{name}: {done} runs, {len(failures)} failures, {seconds:.0f} s", flush=True)
        failed |= bool(failures)
    return int(failed)


def complete(name: str, campaign: Campaign, runs: int, directory: Path) -> list[Batch]:
    """Run what the state in `directory` lacks of a campaign, and return all its batches."""
    state = directory / f"{name}.jsonl"
    batches = list(read(state))
    with state.open("a") as file:
        while (first := batches[-1].stop if batches else 0) < runs:
            for batch in _work(name, campaign, first, runs):
                batches.append(batch)
                file.write(batch.to_line())
                file.flush()
                print(f"{name}: {batch.stop} of {runs}", file=sys.stderr)
    return batches


def _work(name: str, campaign: Campaign, first: int, stop: int) -> Iterator[Batch]:
    """Yield the batches of a worker; the last one failed if the worker died or hung."""
    limit = campaign.limit
    guide = ["tests.campaign.block_coverage"] * campaign.is_guided
    command = ["-m", *guide, "tests.campaign.worker", name, str(first), str(stop)]
    if campaign.lab and platform.machine() != "aarch64":
        lab = [sys.executable, "-m", "pyvmm", "lab", "shell", *campaign.lab]
        command = [*lab, f"--timeout={_LIMIT_IN_LAB}", "--", "python3", *command]
        limit += _BOOT
    else:
        command = [sys.executable, *command]
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as worker:
            assert worker.stdout is not None
            try:
                while first < stop:
                    timer = threading.Timer(limit, worker.kill)
                    timer.start()
                    line = worker.stdout.readline()
                    timer.cancel()
                    limit = campaign.limit
                    if not line.endswith("\n"):
                        break
                    batch = Batch.of_line(line)
                    first = batch.stop
                    yield batch
            finally:
                if first < stop:
                    worker.kill()
        if first < stop:
            errors.seek(0)
            last = "".join(errors.readlines()[-_LAST_LINES:])
            text = f"runs from {first}: the worker ended with {worker.returncode}: {last}"
            yield Batch(first, min(first + campaign.batch, stop), [text], campaign.limit)


if __name__ == "__main__":
    sys.exit(main())
