# SPDX-License-Identifier: GPL-2.0-only
"""Settings for all tests. KVM is never mocked.

A test that this machine's KVM cannot run is skipped and says so; it runs in the emulated arm64
host (``python -m pyvmm lab test``), which ``make test`` also does. The KVM fixtures and the markers
come from `pyvmm.testing`, which pytest loads as a plugin.
"""

import platform
import signal

from hypothesis import settings

from tests.devices import find

__all__ = ["find"]

# No deadline: the emulated host is thirty times slower.
EXAMPLES = 25 if platform.machine() == "aarch64" else 100
settings.register_profile("pyvmm", deadline=None, max_examples=EXAMPLES)
settings.load_profile("pyvmm")

# A background job of a shell ignores SIGINT, and its children inherit SIG_IGN. A handler is not
# inherited across execve(2): children get the default action, which the tests rely on.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure() -> None:
    """Restore the signals that nohup and background jobs of a shell ignore.

    Children inherit that, and tests send them these signals.
    """
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
