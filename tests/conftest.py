# SPDX-License-Identifier: GPL-2.0-only
"""A real kernel for every test, and the skips that say where a test does run.

Nothing here stands in for KVM: a test that this machine's KVM cannot run says so and runs in the
emulated arm64 host (``python -m pyvmm lab test``), which ``make test`` does as well. The fixtures
for KVM and the markers are those of `pyvmm.testing`, which pytest loads with the package.
"""

import platform
import signal

from hypothesis import settings

from tests.devices import find

__all__ = ["find"]

# How long an example takes says nothing in the emulated host, where it takes thirty times as long.
EXAMPLES = 25 if platform.machine() == "aarch64" else 100
settings.register_profile("pyvmm", deadline=None, max_examples=EXAMPLES)
settings.load_profile("pyvmm")

# A shell has what it runs in the background ignore Ctrl-C, and a child inherits that; a handler it
# does not inherit. Tests send Ctrl-C to children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
