# SPDX-License-Identifier: GPL-2.0-only
"""Each device sits alone in its IOMMU group, at its address, with its vfio driver."""

import pytest

from pyvmm.errors import UsageError
from pyvmm.lab import kernel, lab_devices

from .conftest import Run, quiet

SHOW = """\
for each in 0000:01:00.0 0000:02:00.0 0000:03:00.0; do
    cd /sys/bus/pci/devices/$each || exit
    echo $(cat vendor device) $(basename $(readlink -f driver)) $(ls iommu_group/devices)
done
"""


def test_unknown_device_names_the_known() -> None:
    with pytest.raises(UsageError, match=r"'gpu'.*none, grace, bochs, edu, nvme"):
        lab_devices.lookup(["gpu"])


def test_none_is_no_device() -> None:
    assert lab_devices.lookup(["none"]) == []


def test_several_devices_each_alone_in_its_group(run: Run) -> None:
    ran = run("sh", "-c", SHOW, devices=["bochs", "edu", "nvme"])
    assert ran.stdout.decode().splitlines() == [
        "0x1234 0x1111 vfio-pci 0000:01:00.0",
        "0x1234 0x11e8 vfio-pci 0000:02:00.0",
        "0x1b36 0x0010 vfio-pci 0000:03:00.0",
    ]


def test_grace_is_taken_by_the_real_driver_with_memory_of_its_own(run: Run) -> None:
    if kernel.find("lab", quiet) is None:
        pytest.skip("needs the lab's kernel: python -m pyvmm lab setup --kernel lab")
    show = "cat /proc/iomem; readlink /sys/bus/pci/devices/0000:01:00.0/driver"
    ran = run("sh", "-c", show.replace("readlink", "readlink -f"), devices=["grace"])
    lines = ran.stdout.decode().splitlines()
    assert lines[-1].endswith("/nvgrace_gpu_vfio_pci")
    # The RAM that the driver hands out begins where the kernel's own ends.
    assert "40000000-bfffffff : System RAM" in lines
