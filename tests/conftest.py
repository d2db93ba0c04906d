# SPDX-License-Identifier: GPL-2.0-only
"""Settings for all tests. KVM is never mocked.

A test that this machine's KVM cannot run is skipped and says so; it runs in the emulated arm64
host (``python -m pyvmm lab test``), which ``make test`` also does. The KVM fixtures and the markers
come from `pyvmm.testing`, which pytest loads as a plugin.
"""

import platform
import signal

from hypothesis import settings

from tests.devices import drm_shmem, find
from tests.emulated_hosts import emulated, faulting_run, provoked_matrix
from tests.other_vmm import other_vmm
from tests.recorder import module_recorder, recorder

__all__ = [
    "drm_shmem",
    "emulated",
    "faulting_run",
    "find",
    "module_recorder",
    "other_vmm",
    "provoked_matrix",
    "recorder",
]

# No deadline: the emulated host is thirty times slower.
EXAMPLES = 25 if platform.machine() == "aarch64" else 100
settings.register_profile("pyvmm", deadline=None, max_examples=EXAMPLES)
settings.load_profile("pyvmm")

# A background job of a shell ignores SIGINT and SIGQUIT, one of nohup SIGHUP, and children inherit
# that. The tests send them these signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_DFL)
