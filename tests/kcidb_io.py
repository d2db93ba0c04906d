# SPDX-License-Identifier: GPL-2.0-only
"""KCIDB's own check of a document: kcidb-io in a process of its own.

It is in no extra, and not imported: a dependency of it, rfc3987, is GPL-3.0-or-later.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pyvmm.lab import cache

VERSION = "141"
CHECK = """
import json, sys
from kcidb_io.schema import V5_3
V5_3.validate_exactly(json.load(sys.stdin))
"""

Validate = Callable[[str], None]


@pytest.fixture(scope="session")
def validate() -> Validate:
    """Return a function that fails if a document is not valid."""
    place = cache.root() / "trees" / f"kcidb-io-{VERSION}"
    with cache.create(place) as partial:
        if partial:
            argv = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(partial)]
            done = subprocess.run([*argv, f"kcidb-io=={VERSION}"], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"cannot install kcidb-io: {done.stderr.splitlines()[-1]}")
    return lambda text: _validate(text, place)


def _validate(text: str, place: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(place)}
    argv = [sys.executable, "-c", CHECK]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
