# SPDX-License-Identifier: GPL-2.0-only
"""Waiting for interrupts."""

import os
import select


class EventFd:
    """An eventfd that is waited for, not polled."""

    def __init__(self) -> None:
        self.number = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def count(self, seconds: float = 10) -> int:
        """How often it was counted up since the last look; waits for the first time."""
        ready, _, _ = select.select([self.number], [], [], seconds)
        return os.eventfd_read(self.number) if ready else 0

    def signal(self) -> None:
        """Count it up."""
        os.eventfd_write(self.number, 1)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.number)
