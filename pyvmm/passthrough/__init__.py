# SPDX-License-Identifier: GPL-2.0-only
"""Passthrough of vfio devices: open a device, map its BARs for a guest, let the guest probe them.

placement        the GPA of each BAR
assigned         one device on a machine, from open to close
probe_bars       the accesses that the guest makes
job              all of the above for one command line
device_report    the device as JSON
job_document     the result as JSON
"""

from pyvmm.passthrough.assigned import AssignedDevice
from pyvmm.passthrough.job import DeviceResult, Job, JobResult, run_job
from pyvmm.pci.bar_slots import SlotOutcome

__all__ = ["AssignedDevice", "DeviceResult", "Job", "JobResult", "SlotOutcome", "run_job"]
