# SPDX-License-Identifier: GPL-2.0-only
"""``pyvmm trace`` killed at random points: the traced program goes on."""

import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

from tests.campaign.campaign import Campaign
from tests.campaign.kill import PATIENCE, PYVMM, SIGNALS, adopt_orphans, wait_for_orphans

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


def _read(pipe: int) -> bytes:
    """Return the next bytes of a pipe, or nothing at its end or if none come."""
    ready, _, _ = select.select([pipe], [], [], PATIENCE)
    return os.read(pipe, 9) if ready else b""


def _kill_trace(number: int, chance: random.Random) -> Iterator[str]:
    sent, attach = chance.choice(SIGNALS), chance.random() < 0.5
    what = f"kill {number} ({sent.name}, {'-p' if attach else '--'})"
    vmm = [sys.executable, "-c", _VMM]
    trace = [*PYVMM, "trace", "-o", os.devnull]
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
        time.sleep(chance.uniform(0, 1.5))
        command.send_signal(sent)
        command.wait(PATIENCE)
        started = started or _read(output)
        if started:
            program.stdin.write(b"more")
            program.stdin.flush()
            if (answer := _read(output)) != b"more":
                yield f"{what}: the traced program answers {answer!r}"
        program.stdin.close()
    for text in wait_for_orphans():
        yield f"{what}: {text}"


def _run(runs: range) -> Iterator[str]:
    adopt_orphans()
    for number in runs:
        yield from _kill_trace(number, random.Random(number))


CAMPAIGN = Campaign(runs=400, short=8, batch=4, limit=900, run=_run)
