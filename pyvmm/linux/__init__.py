# SPDX-License-Identifier: GPL-2.0-only
"""A Linux guest: arm64 boot protocol, board, vCPU threads, console.

boot            the whole job: devices, guest, reboots, result
built_in_guest  the kernel and the initrd where the user gives none
ram_bar         a BAR that is RAM of the guest
loader          the arm64 boot protocol
board           the memory map, and its device tree
device_tree     a writer of flattened device trees
linux_guest     one run of the guest, from power-on to power-off or reset
vcpu_thread     a thread that runs a vCPU
sbsa_uart       the UART
uart_slot       the UART without an exit per character
guest_console   the console's output
kallsyms        the symbols of a kernel image
"""
