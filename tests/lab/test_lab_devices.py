# SPDX-License-Identifier: GPL-2.0-only
"""Each device has its own IOMMU group, its address, and its vfio driver."""

import pytest

from pyvmm.errors import UsageError
from pyvmm.lab import kernel, lab_devices
from pyvmm.lab.apt import no_progress
from pyvmm.lab.host import Host

from .conftest import Run

SHOW = """\
for each in 0000:01:00.0 0000:02:00.0 0000:03:00.0; do
    cd /sys/bus/pci/devices/$each || exit
    echo $(cat vendor device) $(basename $(readlink -f driver)) $(ls iommu_group/devices)
done
"""


def test_unknown_device() -> None:
    with pytest.raises(UsageError, match=r"'gpu'.*none, grace, bochs, edu, nvme, disk, igb"):
        lab_devices.lookup(["gpu"])


def test_none() -> None:
    assert lab_devices.lookup(["none"]) == []


def test_each_device_has_its_own_group(run: Run) -> None:
    result = run("sh", "-c", SHOW, devices=["bochs", "edu", "nvme"])
    assert result.stdout.decode().splitlines() == [
        "0x1234 0x1111 vfio-pci 0000:01:00.0",
        "0x1234 0x11e8 vfio-pci 0000:02:00.0",
        "0x1b36 0x0010 vfio-pci 0000:03:00.0",
    ]


def test_grace_has_the_nvgrace_driver_and_reserved_memory(run: Run) -> None:
    if kernel.find("lab", no_progress) is None:
        pytest.skip("needs the lab's kernel: python -m pyvmm lab setup --kernel lab")
    show = "cat /proc/iomem; readlink /sys/bus/pci/devices/0000:01:00.0/driver"
    result = run("sh", "-c", show.replace("readlink", "readlink -f"), devices=["grace"])
    lines = result.stdout.decode().splitlines()
    assert lines[-1].endswith("/nvgrace_gpu_vfio_pci")
    # The memory of the device starts where the kernel's RAM ends.
    assert "40000000-bfffffff : System RAM" in lines


def test_a_named_pci_device_has_its_own_port(run: Run, emulated: Host) -> None:
    names, placed = ["bochs", "edu"], ["nvme-ns", "pcie-root-port,id=p", "edu,bus=p", "none"]
    devices, arguments = emulated.qemu.devices(["bochs"], ["edu", *placed])
    assert ([device.name for device in devices], list(arguments)) == (names, placed)
    show = SHOW.replace("0000:03:00.0", "")
    assert run("sh", "-c", show, devices=devices).stdout.decode().splitlines() == [
        "0x1234 0x1111 vfio-pci 0000:01:00.0",
        "0x1234 0x11e8 vfio-pci 0000:02:00.0",
    ]


def test_a_switch_and_a_group_of_two_functions(run: Run) -> None:
    show = "for each in 3:00.0 4:00.0; do echo $(ls */0000:0$each/iommu_group/devices); done"
    arguments = (
        *("pcie-root-port,id=p1,chassis=1", "x3130-upstream,id=up,bus=p1"),
        *("xio3130-downstream,id=down,bus=up,chassis=2", "bochs-display,romfile=,bus=down"),
        *("pcie-root-port,id=p2,chassis=3", "edu,bus=p2,addr=0.1"),
        "edu,bus=p2,addr=0.0,multifunction=on",
    )
    result = run("sh", "-c", f"cd /sys/bus/pci; {show}", device_arguments=arguments)
    assert result.stdout.decode().splitlines() == [
        "0000:02:00.0 0000:03:00.0",  # the downstream port has no ACS
        "0000:04:00.0 0000:04:00.1",
    ]
