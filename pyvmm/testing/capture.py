# SPDX-License-Identifier: GPL-2.0-only
"""pytest's capture of stdin, stdout and stderr, switched off for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def uncaptured(config: pytest.Config) -> Iterator[None]:
    """Restore this process's stdin, stdout and stderr within the block.

    Use it between the phases of a test, in which pytest captures nothing but stdin.
    """
    manager = config.pluginmanager.getplugin("capturemanager")
    if manager is None:
        yield
        return
    manager.suspend_global_capture(in_=True)
    try:
        yield
    finally:
        manager.resume_global_capture()
        manager.suspend_global_capture(in_=False)  # otherwise pytest's own output is captured
