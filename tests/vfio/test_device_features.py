# SPDX-License-Identifier: GPL-2.0-only
"""``VFIO_DEVICE_FEATURE`` probes on the lab's devices."""

from pyvmm.vfio.device_features import probe_features
from pyvmm.vfio.iommu_modes import open_device
from pyvmm.vfio.sysfs import PciFunction


def test_dma_buf_is_supported_and_migration_is_not(function: PciFunction) -> None:
    with open_device(function.bdf) as device:
        features = {feature.name: feature for feature in probe_features(device.fd)}
    assert features["dma-buf"].get
    assert not features["dma-buf"].set
    assert "migration" not in features
