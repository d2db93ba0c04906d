# SPDX-License-Identifier: GPL-2.0-only
"""A vfio device as part of a machine: its BARs as memslots, and emulated where they can't be.

placement   which GPA each BAR gets
backing     the other way to a region, through its read and write
slots       registering areas, and what became of each
device      all of it together, and undone together
"""

from pyvmm.assigned.device import AssignedDevice
from pyvmm.assigned.slots import SlotOutcome

__all__ = ["AssignedDevice", "SlotOutcome"]
