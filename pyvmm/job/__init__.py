# SPDX-License-Identifier: GPL-2.0-only
"""The main job: negotiate, assign devices, let a guest touch them, and tell what happened.

plan      what is to be done, doing it, and what came of it
probing   the guest's accesses to a device's BARs
report    the outcome as JSON
"""

from pyvmm.job.plan import DeviceOutcome, JobOutcome, Plan, perform

__all__ = ["DeviceOutcome", "JobOutcome", "Plan", "perform"]
