# SPDX-License-Identifier: GPL-2.0-only
"""Why a device of the lab does not respond. Each state is compared with an access to a BAR."""

from pyvmm.vfio.region_backing import RegionBacking
from pyvmm.vfio.regions import RegionError
from pyvmm.vfio.vfio_device import VfioDevice

D0, D3HOT = 0, 3


def responds(device: VfioDevice) -> bool:
    try:
        device.regions["BAR0"].read(0, 4)
    except RegionError:
        return False
    return True


def test_power_state(nvme: VfioDevice) -> None:
    backing = RegionBacking(nvme.regions["BAR0"], nvme.config, virtual=False)
    nvme.config.enable_memory()
    assert (backing.failure(), responds(nvme)) == (None, True)
    nvme.config.set_power_state(D3HOT)
    assert (backing.failure(), responds(nvme)) == ("the device is in power state D3hot", False)
    nvme.config.set_power_state(D0)
    nvme.config.enable_memory()
    assert (backing.failure(), responds(nvme)) == (None, True)


def test_disabled_memory(bochs: VfioDevice) -> None:
    backing = RegionBacking(bochs.regions["BAR0"], bochs.config, virtual=False)
    bochs.config.enable_memory(False)
    failure = backing.failure()
    assert failure
    assert "memory space is disabled" in failure
    assert not responds(bochs)


def test_a_virtual_function_has_no_memory_enable_bit(bochs: VfioDevice) -> None:
    assert not bochs.function.is_virtual
    bochs.config.enable_memory(False)
    assert RegionBacking(bochs.regions["BAR0"], bochs.config, virtual=True).failure() is None
