# SPDX-License-Identifier: GPL-2.0-only
"""Commands killed at random points: what they leave behind.

SIGKILL of a command leaves its temporary files and drivers as they are; the next run cleans up.
"""

import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from pyvmm import libc
from pyvmm.provoke.testbed import find_function
from pyvmm.vfio.iommu_modes import AUTO, MODES
from pyvmm.vfio.sysfs import PCI, PciFunction
from tests.campaign.campaign import Campaign

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_PATIENCE = 60  # seconds
_PYVMM = (sys.executable, "-m", "pyvmm")

# A VMM that calls KVM_GET_API_VERSION all the time, and returns its input.
_VMM = """
import fcntl, os
kvm = os.open("/dev/kvm", os.O_RDWR)
os.set_blocking(0, False)
os.write(1, b"up")
while True:
    assert fcntl.ioctl(kvm, 0xAE00, 0) == 12
    try:
        data = os.read(0, 9)
    except BlockingIOError:
        continue
    if not data:
        break
    os.write(1, data)
"""


def _adopt_orphans() -> None:
    """Make the processes that killed commands leave behind children of this process."""
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _wait_for_orphans(what: str) -> Iterator[str]:
    """Wait until this process has no children; yield those that do not end, and kill them."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid and time.monotonic() > end:
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            for child in children:
                yield f"{what}: left {Path(f'/proc/{child}/cmdline').read_text()!r}"
                os.kill(int(child), signal.SIGKILL)
        elif not pid:
            time.sleep(0.02)


def _read(pipe: int) -> bytes:
    """Return the next bytes of a pipe, or nothing at its end or if none come."""
    ready, _, _ = select.select([pipe], [], [], _PATIENCE)
    return os.read(pipe, 9) if ready else b""


def _names(directory: str) -> set[str]:
    return {path.name for path in Path(directory).iterdir()}


def _kill(process: "subprocess.Popen[bytes]", number: signal.Signals, delay: float) -> None:
    time.sleep(delay)
    process.send_signal(number)
    process.wait(_PATIENCE)


def _kill_trace(number: int, chance: random.Random) -> Iterator[str]:
    sent, attach = chance.choice(SIGNALS), chance.random() < 0.5
    what = f"kill {number} ({sent.name}, {'-p' if attach else '--'})"
    vmm = [sys.executable, "-c", _VMM]
    trace = [*_PYVMM, "trace", "-o", os.devnull]
    with ExitStack() as stack:
        program = stack.enter_context(
            subprocess.Popen(
                vmm if attach else [*trace, "--", *vmm],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        )
        assert program.stdin is not None
        assert program.stdout is not None
        output = program.stdout.fileno()
        command, started = program, b""
        if attach:
            started = _read(output)
            command = subprocess.Popen([*trace, "-p", str(program.pid)], stderr=subprocess.DEVNULL)
        _kill(command, sent, chance.uniform(0, 1.5))
        started = started or _read(output)
        if started:
            program.stdin.write(b"more")
            program.stdin.flush()
            if (answer := _read(output)) != b"more":
                yield f"{what}: the traced program answers {answer!r}"
        program.stdin.close()
    yield from _wait_for_orphans(what)


def _traces(runs: range) -> Iterator[str]:
    _adopt_orphans()
    for number in runs:
        yield from _kill_trace(number, random.Random(number))


def _labs(runs: range) -> Iterator[str]:
    _adopt_orphans()
    with tempfile.TemporaryDirectory() as temporary:
        environment = {**os.environ, "TMPDIR": temporary}
        command = [*_PYVMM, "lab", "shell", "--kernel", "lab", "--", "true"]
        for number in runs:
            chance = random.Random(number)
            sent = chance.choice(SIGNALS)
            what = f"kill {number} ({sent.name})"
            before = _names(temporary)
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            _kill(process, sent, chance.uniform(0, 12))
            yield from _wait_for_orphans(what)
            left = _names(temporary) - before
            if left and sent != signal.SIGKILL:
                yield f"{what}: left {left} in TMPDIR"
        subprocess.run(command, env=environment, check=True, capture_output=True)
        if left := _names(temporary):
            yield f"after {runs}: the next run left {left} in TMPDIR"


def _jobs(runs: range) -> Iterator[str]:
    _adopt_orphans()
    function = find_function("vfio-pci")
    with tempfile.TemporaryDirectory() as temporary:
        environment = {**os.environ, "TMPDIR": temporary}
        for number in runs:
            chance = random.Random(number)
            sent, bind = chance.choice(SIGNALS), chance.random() < 0.5
            mode = chance.choice((AUTO, *MODES))
            what = f"kill {number} ({sent.name}, --iommu-mode {mode}{', --bind' * bind})"
            driver = None if bind else "vfio-pci"
            before = _names(temporary)
            _set_driver(function, driver)
            command = [*_PYVMM, "--vfio", str(function), "--iommu-mode", mode, *["--bind"] * bind]
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            _kill(process, sent, chance.uniform(0, 6))
            yield from _wait_for_orphans(what)
            if function.driver != driver and not (bind and sent == signal.SIGKILL):
                yield f"{what}: the driver is {function.driver}, and was {driver}"
            left = _names(temporary) - before
            if left and sent != signal.SIGKILL:
                yield f"{what}: left {left} in TMPDIR"
        _set_driver(function, "vfio-pci")
        done = subprocess.run(
            [*_PYVMM, "--vfio", str(function)], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            yield f"after {runs}: the next run fails: {done.stderr}"


def _set_driver(function: PciFunction, driver: str | None) -> None:
    """Bind `function` to `driver`, or to none."""
    if function.driver == driver:
        return
    if function.driver:
        (function.path / "driver/unbind").write_text(str(function))
    (function.path / "driver_override").write_text(f"{driver or ''}\n")
    if driver:
        (PCI / "drivers_probe").write_text(str(function))


LAB = ("--kernel", "lab", "--device", "bochs")
TRACES = Campaign(runs=400, short=8, batch=4, limit=900, run=_traces)
LABS = Campaign(runs=200, short=0, batch=10, limit=1800, run=_labs)
JOBS = Campaign(runs=400, short=4, batch=4, limit=1800, run=_jobs, lab=LAB)
