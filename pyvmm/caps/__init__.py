# SPDX-License-Identifier: GPL-2.0-only
"""The capabilities of this kernel and CPU, and why the rest is missing.

::

    with System.open() as system:
        report = negotiate(system)
    report.capability("KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED").value
    report.verdict("cacheable-pfnmap").why
"""

from pyvmm.caps.caps_report import CapsReport, negotiate
from pyvmm.caps.verdicts import Verdict

__all__ = ["CapsReport", "Verdict", "negotiate"]
