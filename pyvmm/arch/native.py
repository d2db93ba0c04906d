# SPDX-License-Identifier: GPL-2.0-only
"""The host's architecture."""

import platform

from pyvmm.arch.architecture import Architecture
from pyvmm.errors import LackingError


def native() -> Architecture:
    """Return the host's architecture; raise `LackingError` if pyvmm does not support it."""
    # Imported on demand: only one of the two is needed.
    match platform.machine():
        case "aarch64":
            from pyvmm.arch.arm64 import setup as arm64

            return arm64
        case "x86_64":
            from pyvmm.arch.x86_64 import setup as x86_64

            return x86_64
        case other:
            raise LackingError(
                f"pyvmm drives KVM on arm64 and x86-64, not on {other}: use python -m pyvmm lab run"
            )
