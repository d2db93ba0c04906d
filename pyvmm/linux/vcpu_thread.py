# SPDX-License-Identifier: GPL-2.0-only
"""A thread that runs a vCPU until the guest ends or is stopped."""

import threading
from collections.abc import Callable

from pyvmm.faults import poison
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.machine.run_loop import Handlers, RunOutcome, run


class VcpuThread(threading.Thread):
    """A thread that runs a vCPU.

    Attributes:
        outcome: how the run ended, or None.
        error: the exception that ended it, or None.
    """

    def __init__(self, vcpu: Vcpu, handlers: Handlers, ended: Callable[[], object]) -> None:
        """Create the thread, not started; it calls `ended` at its end."""
        super().__init__(name="vcpu", daemon=True)
        self._vcpu, self._handlers, self._ended = vcpu, handlers, ended
        self.outcome: RunOutcome | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Run the vCPU."""
        try:
            with poison.reporting(self._vcpu):
                self.outcome = run(self._vcpu, self._handlers)
        except BaseException as error:
            self.error = error
        finally:
            self._ended()

    def stop(self) -> None:
        """Stop the vCPU and wait for the thread."""
        self._vcpu.stop()
        self.join()
