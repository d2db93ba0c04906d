# SPDX-License-Identifier: GPL-2.0-only
"""A small machine to run payloads on, and the loop that takes its exits to who answers them.

board     RAM, a console, one vCPU
bus       devices by address
console   a transmit register
run       the loop
spinning_guest a guest that stays where it is, to be looked at
"""

from pyvmm.machine.machine import ARGUMENT_BLOCK, ENTRY, MINIMUM_RAM, RAM_BASE, Machine

__all__ = ["ARGUMENT_BLOCK", "ENTRY", "MINIMUM_RAM", "RAM_BASE", "Machine"]
