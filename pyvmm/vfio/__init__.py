# SPDX-License-Identifier: GPL-2.0-only
"""Assigned PCI devices: from an address to mapped BARs, DMA and interrupts.

Before the device is ours
    bdf          a PCI address
    sysfs        what the kernel says of the function at it
    hostuse      what the host needs it for
    bind         lending it to a vfio driver, and giving it back
Into an IO address space
    modes        the five IOMMU modes: which are there, and `open_device`
    nodes        device nodes, and why one can't be opened
    dma          the face that all modes share: mapping memory for DMA
    iommufd      /dev/iommu and cdevs
    container    containers and groups
    dmabuf       BARs as targets of other devices' DMA
The device itself
    device       regions, interrupts, config space, features, reset
    chains       the capability chains of vfio's INFO ioctls
    capabilities what a region's capabilities say
    regions      regions, read and written
    bars         which parts of a BAR can be mapped, and mapping them
    config       PCI config space
    irqs         INTx, MSI and MSI-X through eventfds
    features     what the driver offers beyond
"""
