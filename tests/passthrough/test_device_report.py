# SPDX-License-Identifier: GPL-2.0-only
"""The ``device`` object of the JSON document."""

import dataclasses
import errno
import json

import pytest

from pyvmm.lab.lab_devices import DEVICES
from pyvmm.passthrough.device_report import report_device, report_emulated
from pyvmm.vfio.bars import EmulatedArea, Unmappable
from pyvmm.vfio.iommu_modes import open_device
from pyvmm.vfio.region_caps import Area
from tests.devices import Find


@pytest.mark.parametrize("name", DEVICES)
def test_report_is_json(find: Find, name: str) -> None:
    function = find(name)
    with open_device(function.bdf) as device:
        report = json.loads(json.dumps(dataclasses.asdict(report_device(device))))
        assert report["iommu_mode"] == device.dma.mode
    assert report["bdf"] == str(function)
    assert report["driver"] == function.driver
    [bar0] = [region for region in report["regions"] if region["name"] == "BAR0"]
    assert bar0["flags"] == ["read", "write", "mmap"]
    assert bar0["areas"] == [{"offset": 0, "size": bar0["size"]}]


@pytest.mark.parametrize("reason", Unmappable)
def test_every_reason_has_a_phrase(reason: Unmappable) -> None:
    area = Area(0x1000, 0x1000)
    report = report_emulated(EmulatedArea(area, reason, errno.EACCES))
    assert report.area == area
    assert "{" not in report.why
    assert ("Permission denied" in report.why) == (reason is Unmappable.MMAP_FAILED)
