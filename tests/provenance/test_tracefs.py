# SPDX-License-Identifier: GPL-2.0-only
"""The tracing instance: what it needs, what it leaves behind, and who removes that."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyvmm.errors import LackingError, SkippedError
from pyvmm.provenance import tracefs
from tests.process import adopted_orphans, as_nobody

ROOT = Path(__file__).parents[2]
RECORD = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pyvmm.provenance import Recorder
recorder = Recorder.of_this_process()
print("recording", flush=True)
time.sleep(600)
"""


@pytest.fixture
def place() -> Path:
    try:
        return tracefs.locate()
    except (LackingError, SkippedError) as error:
        pytest.skip(f"{error}; the emulated host has it: pytest --lab")


def traces_of(place: Path, pid: int) -> bool:
    """Return True if an instance or an event of process `pid` exists."""
    events = (place / "kprobe_events").read_text()
    return (place / "instances" / f"pyvmm-{pid}").exists() or f"pyvmm_{pid}/" in events


def test_it_needs_root() -> None:
    assert "needs root" in as_nobody(lambda: str(tracefs.locate()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_process_leaves_nothing(place: Path, number: int) -> None:
    with adopted_orphans():
        process = subprocess.Popen([sys.executable, "-c", RECORD], stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == b"recording\n"
            assert traces_of(place, process.pid)
            os.kill(process.pid, number)
            process.wait()
    assert not traces_of(place, process.pid)


def test_leftovers_of_a_dead_process_are_removed(place: Path) -> None:
    """The process that removes them was killed as well."""
    child = os.fork()
    if not child:
        instance = tracefs.Instance(place, os.getpid())
        instance.define("r", "kvm_vcpu_ioctl", "kvm_vcpu_ioctl ret=$retval:s32")
        os._exit(0)
    os.waitpid(child, 0)
    assert traces_of(place, child)
    tracefs.remove_leftovers(place)
    assert not traces_of(place, child)


def test_a_function_that_does_not_exist(place: Path) -> None:
    instance = tracefs.Instance(place, os.getpid())
    try:
        assert instance.define("r", "vcpu", "kvm_vcpu_ioctl ret=$retval:s32")
        assert not instance.define("r", "missing", "no_such_function ret=$retval:s32")
    finally:
        instance.close()
        tracefs.remove(place, os.getpid())
    assert not traces_of(place, os.getpid())
