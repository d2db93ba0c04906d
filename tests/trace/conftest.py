# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures that run and trace small programs that use /dev/kvm."""

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
from pyvmm.trace.kvm_trace import KvmTrace
from pyvmm.trace.tracer import Tracer

ROOT = Path(__file__).parents[2]

# The first lines of each traced program. The path lets it import pyvmm's tests.
PRELUDE = f"""
import ctypes, fcntl, os, sys
sys.path.insert(0, {str(ROOT)!r})
from pyvmm.ioctl import IoctlError
from pyvmm.kvm import System
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.uapi import kvm as uapi

"""


class Traces(Protocol):
    """The type of the `trace` fixture."""

    def __call__(self, program: str, *rules: str, detailed: bool = True) -> list[Event]: ...


@pytest.fixture
def trace(kvm: System) -> Traces:
    """Return a function that traces a Python program and returns its events."""

    def run(program: str, *rules: str, detailed: bool = True) -> list[Event]:
        events: list[Event] = []
        handler = KvmTrace([events.append], Rules(map(parse, rules)), detailed=detailed)
        tracer = Tracer(handler, handler.syscalls)
        tracer.start([sys.executable, "-c", PRELUDE + textwrap.dedent(program)])
        try:
            tracer.run()
        finally:
            handler.close()
        assert tracer.status == 0, "the traced program failed"
        return events

    return run


@pytest.fixture
def background() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Return a function that starts a program, which is killed at the end of the test."""
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
