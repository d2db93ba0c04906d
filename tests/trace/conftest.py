# SPDX-License-Identifier: GPL-2.0-only
"""Real tracees: small programs that drive /dev/kvm, run and traced for each test."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from pyvmm.kvm import System
from pyvmm.trace.events import Event
from pyvmm.trace.inject import Rules, parse
from pyvmm.trace.known import Known
from pyvmm.trace.tracer import Tracer
from pyvmm.trace.watch import Watch

ROOT = Path(__file__).parents[2]

# What most tracees begin with; wherever pytest runs, they find pyvmm's tests.
PRELUDE = f"""
import ctypes, fcntl, os, sys
sys.path.insert(0, {str(ROOT)!r})
from pyvmm.ioctl import IoctlError
from pyvmm.kvm import System
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.uapi import kvm as uapi

"""


class Traces(Protocol):
    """Runs a Python program under trace and returns all events."""

    def __call__(
        self, program: str, *rules: str, detailed: bool = True, mappings: bool = True
    ) -> list[Event]: ...


@pytest.fixture
def trace(kvm: System) -> Traces:
    """Trace a program, with rules to inject if there are any."""

    def run(program: str, *rules: str, detailed: bool = True, mappings: bool = True) -> list[Event]:
        events: list[Event] = []
        known = Known(Rules(map(parse, rules)), detailed)
        watch = Watch(known, [events.append], mappings=mappings)
        tracer = Tracer(watch, watch.calls)
        tracer.start([sys.executable, "-c", PRELUDE + textwrap.dedent(program)])
        try:
            tracer.run()
        finally:
            known.close()
        assert tracer.status == 0, "the traced program failed"
        return events

    return run


@pytest.fixture
def background() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start a program that goes on by itself; whatever is left of it ends with the test."""
    started = []

    def start(*command: str | Path) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
