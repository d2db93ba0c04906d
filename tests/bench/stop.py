# SPDX-License-Identifier: GPL-2.0-only
"""The time from `Vcpu.stop` to the end of the run in another thread."""

import threading
import time
from collections.abc import Iterator

from tests.bench._measure import Figure
from tests.exits_vmm import exiting_machine

STOPS = 50


def main() -> Iterator[Figure]:
    for payload in ("spin", "exits"):
        latencies = sorted(_latency(payload) for _ in range(STOPS))
        yield Figure(f"{payload}, median", latencies[STOPS // 2] * 1e3, "ms")
        yield Figure(f"{payload}, worst of {STOPS}", latencies[-1] * 1e3, "ms", goal=10)


def _latency(payload: str) -> float:
    """Return the seconds from `Vcpu.stop` to the end of the run, for a guest that never ends."""
    with exiting_machine(1 << 60, payload) as machine:
        ended = 0.0

        def run() -> None:
            nonlocal ended
            machine.run()
            ended = time.perf_counter()

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.01)
        start = time.perf_counter()
        machine.vcpu.stop()
        thread.join()
        return ended - start
