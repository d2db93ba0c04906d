# SPDX-License-Identifier: GPL-2.0-only
"""Handling of guest accesses that KVM did not resolve.

A fault goes one way::

    locate         the access: from the exit, or rebuilt from the vCPU
    access_facts   its facts: memslot, mapping, VMA, capabilities
    examine        the cause, judged by pyvmm.why on those facts
    remedies       the ways to handle it, and what each costs the guest
    policy         the choice of one of them
    repairs        carrying it out
    handler        all of that for one vCPU, with a guard against faults that come back
"""

from pyvmm.faults.context import VcpuContext
from pyvmm.faults.fault import Fault, Fix, Remedy
from pyvmm.faults.handler import FaultHandler, FaultRecord, Faults, enable_fault_reporting
from pyvmm.faults.policy import Policy, auto
from pyvmm.faults.report import FaultReport

__all__ = [
    "Fault",
    "FaultHandler",
    "FaultRecord",
    "FaultReport",
    "Faults",
    "Fix",
    "Policy",
    "Remedy",
    "VcpuContext",
    "auto",
    "enable_fault_reporting",
]
