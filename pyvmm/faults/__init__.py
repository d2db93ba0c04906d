# SPDX-License-Identifier: GPL-2.0-only
"""What happens when KVM can't resolve a guest access: report, reason, fix, replay.

The way of a fault, one direction only::

    report     what was accessed: told by the kernel, or rebuilt from the vCPU
    evidence   what is behind that page now: memslot, mapping, VMA, capabilities
    cause      which rule explains it
    remedies   what can be done about this cause, and what it would cost the guest
    policy     who decides
    handler    all of it for one machine, with a guard against faults that come back
"""

from pyvmm.faults.fault import Fault, Fix, Remedy
from pyvmm.faults.handler import FaultHandler, FaultRecord, ask_for_syndromes
from pyvmm.faults.policy import Policy, auto
from pyvmm.faults.report import FaultReport

__all__ = [
    "Fault",
    "FaultHandler",
    "FaultRecord",
    "FaultReport",
    "Fix",
    "Policy",
    "Remedy",
    "ask_for_syndromes",
    "auto",
]
