# SPDX-License-Identifier: GPL-2.0-only
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyvmm.vfio.sysfs import PCI, PciFunction
from tests.devices import Find

TEST = """
from pyvmm.vfio.sysfs import PciFunction

def test_driver(record_property):
    record_property("driver", PciFunction.find({bdf!r}).driver)
"""


@pytest.fixture
def driverless(find: Find) -> Iterator[PciFunction]:
    """Yield the edu device without a driver and without driver_override."""
    function = find("edu")
    (function.path / "driver_override").write_text("\n")
    (function.path / "driver/unbind").write_text(str(function))
    yield function
    (function.path / "driver_override").write_text("vfio-pci")
    (PCI / "drivers_probe").write_text(str(function))


@pytest.mark.parametrize("is_ended", [True, False], ids=["ended", "connection lost"])
def test_device_has_a_vfio_driver_in_the_session(
    driverless: PciFunction, tmp_path: Path, is_ended: bool
) -> None:
    (tmp_path / "test_it.py").write_text(TEST.format(bdf=str(driverless)))
    job: dict[str, object] = {"options": {}, "shell": None, "device": str(driverless)}
    (tmp_path / "job.json").write_text(json.dumps(job))
    plugins = ("-p", "pyvmm.testing.plugin", "-p", "pyvmm.testing.board_agent")
    orders = [{"run": "test_it.py::test_driver", "next": None}]
    orders += [{"run": None, "next": None}] if is_ended else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "--board-agent=job.json", "test_it.py"],
        cwd=tmp_path,
        input="".join(json.dumps(order) + "\n" for order in orders),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    reports = [event["report"] for event in events if event["event"] == "report"]
    assert reports[-1]["user_properties"] == [["driver", "vfio-pci"]]
    assert driverless.driver is None
