# SPDX-License-Identifier: GPL-2.0-only
"""``pyvmm lab run`` killed at random points, some while it repairs its cache.

The cache is a copy of the user's in hard links: pyvmm replaces files, and never writes to them.
"""

import os
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyvmm.lab import cache
from tests.campaign.campaign import Campaign
from tests.campaign.kill import PYVMM, SIGNALS, adopt_orphans, names, private_tmpdir, start_and_kill

_LAB_RUN = (*PYVMM, "lab", "run", "--kernel", "lab")
_COMMANDS = (
    (*_LAB_RUN, "--device", "bochs", "--", "--vfio", "0000:01:00.0"),
    (*_LAB_RUN, "--device", "grace", "--", "--vfio", "0000:01:00.0"),
    (*_LAB_RUN, "--", "caps"),
)
_LONGEST = 12  # seconds
_COPIED = ("apt", "trees", "kernels", "pycache")
_OMITTED = (".lock-*", ".partial-*", "builder-*")
# A run creates these again in seconds, without downloads.
_REPAIRABLE = ("userland-*.erofs", "userland-*.busybox")


@contextmanager
def _copied_cache() -> Iterator[None]:
    """Use a private copy of the cache, beside the original: hard links stay on one disk."""
    original = cache.root()
    with tempfile.TemporaryDirectory(prefix="pyvmm-campaign-", dir=original.parent) as home:
        for name in _COPIED:
            shutil.copytree(
                original / name,
                Path(home) / original.name / name,
                symlinks=True,
                copy_function=os.link,
                ignore=shutil.ignore_patterns(*_OMITTED),
            )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", home)
            yield


def _damaged() -> Iterator[str]:
    """Yield the parts of the cache that exist and are not intact."""
    for name in ("trees", "kernels"):
        for path in sorted((cache.root() / name).glob("[!.]*")):
            if not cache.is_intact(path):
                yield f"{path} is damaged"


def _run(runs: range) -> Iterator[str]:
    adopt_orphans()
    # One run before the copy: it builds what the user's cache lacks.
    subprocess.run(_COMMANDS[1], check=True, capture_output=True)
    with _copied_cache(), private_tmpdir() as (temporary, environment):
        for number in runs:
            chance = random.Random(number)
            sent, command = chance.choice(SIGNALS), chance.choice(_COMMANDS)
            repairs = chance.random() < 1 / 3
            what = f"kill {number} ({sent.name}, {command[5:]}{', repairs' * repairs})"
            if repairs:
                for path in (cache.root() / "trees").glob(chance.choice(_REPAIRABLE)):
                    path.unlink()
            before = names(temporary)
            failures = list(start_and_kill(command, sent, chance, _LONGEST, environment))
            left = names(temporary) - before
            if left and sent != signal.SIGKILL:  # the next run removes those of SIGKILL
                failures.append(f"left {left} in TMPDIR")
            yield from (f"{what}: {text}" for text in (*failures, *_damaged()))
        for command in _COMMANDS:
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                yield f"after {runs}: the next run of {command[5:]} fails: {done.stderr}"
        if left := names(temporary):
            yield f"after {runs}: the next run left {left} in TMPDIR"
        if partial := [*cache.root().glob("*/.partial-*")]:
            yield f"after {runs}: the next run left {partial}"


CAMPAIGN = Campaign(runs=200, short=0, batch=20, limit=3600, run=_run)
