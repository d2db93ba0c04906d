# SPDX-License-Identifier: GPL-2.0-only
"""The modes of KVM on arm64, which the kernel's ``kvm-arm.mode=`` parameter selects.

A kernel that cannot run a mode goes on with another one, and only its log shows that. init.sh
compares the mode with the log.
"""

from collections.abc import Mapping

from pyvmm.errors import UsageError

# A CPU with VHE runs in mode "vhe" by default; the parameter has no value for it.
PARAMETERS: Mapping[str | None, str] = {
    None: "",
    "vhe": "",
    "nvhe": "kvm-arm.mode=nvhe",
    "protected": "kvm-arm.mode=protected",
    "nested": "kvm-arm.mode=nested",
}
NAMES = tuple(name for name in PARAMETERS if name)


def parameter(mode: str | None) -> str:
    """Return what selects `mode` on the kernel command line. Raises `UsageError` if unknown."""
    if mode not in PARAMETERS:
        raise UsageError(f"unknown mode of KVM {mode!r}: pass {', '.join(NAMES)}")
    return PARAMETERS[mode]
