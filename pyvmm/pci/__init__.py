# SPDX-License-Identifier: GPL-2.0-only
"""vfio devices as PCI functions of a guest.

host_bridge     ECAM, and the windows for BARs
pci_function    the config space of a function
guest_bar       a BAR at the address that the guest gives it
bar_slots       the memslots of a BAR, and the outcome of each
interrupts      INTx, MSI or MSI-X, as the guest enables them
msix_table      the MSI-X table
msix_pba        the pending bits of MSI-X
vector          an interrupt vector: eventfd and irqfd
gsi_routes      the GSI routing table
counted_device  a count of accesses by device
"""
