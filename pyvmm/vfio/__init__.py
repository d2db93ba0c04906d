# SPDX-License-Identifier: GPL-2.0-only
"""vfio: PCI functions, IO address spaces, and the regions and interrupts of a device.

PCI functions of the host
    bdf              PCI addresses
    sysfs            a function's IDs, driver, IOMMU group and vfio cdev
    host_use         reasons why the host needs a function
    rebind           binding a function to a vfio driver, and back
IO address spaces
    iommu_modes      the five IOMMU modes, and `open_device`
    device_nodes     opening /dev/vfio and /dev/iommu
    dma              the interface that all modes share: mapping memory for DMA
    ioas             an iommufd with one IOAS; devices attach through their cdevs
    container        containers and groups
    dmabuf           BARs as DMA targets, through dma-bufs
An open device
    vfio_device      regions, interrupts, config space, reset
    cap_chains       the capability chains of vfio's INFO ioctls
    region_caps      decoded capabilities of a region
    regions          regions, read and written
    region_backing   a region as another path to the contents of its mapping
    bars             splitting a region into mapped and emulated areas; mapping it
    config           PCI config space
    irqs             INTx, MSI and MSI-X through eventfds
    device_features  VFIO_DEVICE_FEATURE
"""
