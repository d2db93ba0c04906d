# SPDX-License-Identifier: GPL-2.0-only
"""An eventfd to wait for interrupts."""

import os
import select


class EventFd:
    """An eventfd with a blocking read."""

    def __init__(self) -> None:
        self.number = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def count(self, seconds: float = 10) -> int:
        """Wait for a signal and return the number of signals since the last call, 0 on timeout."""
        ready, _, _ = select.select([self.number], [], [], seconds)
        return os.eventfd_read(self.number) if ready else 0

    def signal(self) -> None:
        """Signal the eventfd."""
        os.eventfd_write(self.number, 1)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.number)
