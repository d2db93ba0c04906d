# SPDX-License-Identifier: GPL-2.0-only
"""A small virtual machine for payloads, and its run loop.

console         a transmit register
machine         RAM, a console, one vCPU
run_loop        run a vCPU and pass its exits to handlers
spinning_guest  a guest that reads one word in an endless loop
"""

from pyvmm.machine.machine import ARGUMENT_BLOCK, ENTRY, MINIMUM_RAM, RAM_BASE, Machine

__all__ = ["ARGUMENT_BLOCK", "ENTRY", "MINIMUM_RAM", "RAM_BASE", "Machine"]
