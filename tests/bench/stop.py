# SPDX-License-Identifier: GPL-2.0-only
"""From `Vcpu.stop` to the end of the run in another thread (aim: within 10 ms)."""

import io
import threading
import time
from collections.abc import Iterator

from pyvmm.arch.page_tables import MemoryType, identity
from pyvmm.guest import repeat
from pyvmm.guest.payload import Payload
from pyvmm.kvm import System
from pyvmm.machine import Machine
from tests.bench.exits import GPA, PORT, SIZE, Sink

STOPS = 50


def main() -> Iterator[str]:
    with System.open() as system:
        for payload in ("spin", "exits"):
            latencies = sorted(_latency(system, payload) for _ in range(STOPS))
            yield (
                f"{payload:<6} median {latencies[STOPS // 2] * 1e3:5.2f} ms, "
                f"worst of {STOPS} {latencies[-1] * 1e3:5.2f} ms"
            )


def _latency(system: System, payload: str) -> float:
    """Seconds until a guest that never ends by itself has been stopped."""
    with Machine(system, console=io.BytesIO()) as machine:
        machine.mmio.attach(GPA, SIZE, Sink())
        machine.ports.attach(PORT, 1, Sink())
        machine.windows.append(identity(GPA, SIZE, MemoryType.DEVICE))
        machine.load(Payload.builtin(payload, machine.arch.NAME))
        machine.enter(repeat.pack(1 << 60, PORT if machine.arch.CONSOLE_IS_PORT else GPA))
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
