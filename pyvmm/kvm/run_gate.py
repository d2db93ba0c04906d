# SPDX-License-Identifier: GPL-2.0-only
"""The gate before ``KVM_RUN``, which a VM closes while it changes several things at once."""

import threading


class RunGate:
    """A gate that each vCPU of a VM passes before ``KVM_RUN``.

    Attributes:
        closed: True while a thread keeps the vCPUs out of the guest.
        lock: held by that thread. Reentrant.
    """

    def __init__(self) -> None:
        """Start with an open gate."""
        self.closed = False
        self.lock = threading.RLock()

    def wait(self) -> None:
        """Return when no other thread holds the gate closed."""
        with self.lock:
            pass
