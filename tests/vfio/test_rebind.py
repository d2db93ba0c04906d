# SPDX-License-Identifier: GPL-2.0-only
"""Binding a device to vfio and restoring its driver, whatever ends the block."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from pyvmm import sandbox
from pyvmm.errors import LackingError, PyvmmError, UsageError
from pyvmm.vfio.iommu_modes import open_device
from pyvmm.vfio.rebind import bind_to_vfio, kept_driver, vfio_driver_for, vfio_module_for
from pyvmm.vfio.sysfs import PciFunction, list_functions
from tests.process import adopted_orphans, children, in_child, open_fds

# Binds a device to vfio, opens it, prints the driver, and waits for a signal.
CHILD = """
import signal, sys, time
from pyvmm.vfio.rebind import bind_to_vfio
from pyvmm.vfio.iommu_modes import open_device
from pyvmm.vfio.sysfs import PciFunction

def terminate(signum, frame):
    raise SystemExit(128 + signum)

signal.signal(signal.SIGTERM, terminate)
function = PciFunction.find(sys.argv[1])
with bind_to_vfio(function) as driver, open_device(function.bdf):
    print(driver, flush=True)
    while True:  # a signal just before signal.pause() would not end it
        time.sleep(0.1)
"""


class Stop(Exception):
    """Ends a block early."""


def test_driver_is_changed_and_restored(nvme_with_its_driver: PciFunction) -> None:
    function = nvme_with_its_driver
    with bind_to_vfio(function) as driver:
        assert driver == function.driver == "vfio-pci"
        with open_device(function.bdf) as device:
            assert device.regions["BAR0"].size
    assert (function.driver, function.driver_override) == ("nvme", None)


def test_device_without_a_driver_has_none_afterwards(driverless: PciFunction) -> None:
    with bind_to_vfio(driverless):
        assert driverless.driver == "vfio-pci"
    assert not driverless.driver
    assert not driverless.driver_override


def test_device_with_a_vfio_driver_keeps_it(function: PciFunction) -> None:
    before = function.driver, function.driver_override
    with bind_to_vfio(function) as driver:
        assert driver == function.driver == before[0]
    assert (function.driver, function.driver_override) == before


def test_restored_after_an_exception(nvme_with_its_driver: PciFunction) -> None:
    with pytest.raises(Stop), bind_to_vfio(nvme_with_its_driver):
        raise Stop
    assert nvme_with_its_driver.driver == "nvme"


def test_restored_from_within_a_sandbox(nvme_with_its_driver: PciFunction) -> None:
    def bind() -> str:
        with bind_to_vfio(nvme_with_its_driver) as driver:
            sandbox.enter()
        return driver

    assert in_child(bind) == "vfio-pci"
    assert (nvme_with_its_driver.driver, nvme_with_its_driver.driver_override) == ("nvme", None)


def _bind_and_stop(function: PciFunction, at: str, stopped: int, patch: pytest.MonkeyPatch) -> None:
    """Bind `function`, and at the point `at` write to the pipe `stopped` and wait."""
    points = iter(("override", "unbind", "probe"))
    job, write = os.getpid(), os.write

    def stop() -> None:
        write(stopped, b"!")
        time.sleep(600)

    def write_and_stop(fd: int, data: bytes) -> int:
        written = write(fd, data)
        if os.getpid() == job and next(points, None) == at:
            stop()
        return written

    patch.setattr(os, "write", write_and_stop)
    with bind_to_vfio(function):
        if at == "bound":
            stop()
        with open_device(function.bdf):
            sandbox.enter()
            stop()


@pytest.mark.parametrize("at", ["override", "unbind", "probe", "bound", "sandboxed"])
def test_restored_after_sigkill(
    nvme_with_its_driver: PciFunction, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait, stopped = os.pipe()
    with os.fdopen(wait) as pipe, adopted_orphans():
        if not (child := os.fork()):
            try:
                _bind_and_stop(nvme_with_its_driver, at, stopped, monkeypatch)
            finally:
                os._exit(1)
        os.close(stopped)
        assert pipe.read(1) == "!"
        os.kill(child, signal.SIGKILL)
    assert (nvme_with_its_driver.driver, nvme_with_its_driver.driver_override) == ("nvme", None)


def test_killed_helper_process_is_named(nvme_with_its_driver: PciFunction) -> None:
    function = nvme_with_its_driver
    with adopted_orphans(), pytest.raises(PyvmmError) as error, bind_to_vfio(function):
        os.kill(children()[0], signal.SIGKILL)
    said, _, commands = str(error.value).partition("; repeat it by hand: ")
    assert said == f"{function} is not back with nvme: its helper process was killed"
    assert kept_driver(function) == "vfio-pci"
    subprocess.run(commands, shell=True, check=True)
    assert (function.driver, function.driver_override) == ("nvme", None)
    assert kept_driver(function) is None


def test_a_process_that_bound_a_device_holds_no_file_of_sysfs(
    nvme_with_its_driver: PciFunction,
) -> None:
    with bind_to_vfio(nvme_with_its_driver):
        assert not [fd for fd in open_fds() if "/sys/" in fd]


def test_restored_if_the_driver_rejects_the_device(nvme_with_its_driver: PciFunction) -> None:
    with ExitStack() as stack, pytest.raises(LackingError, match="did not bind"):
        # With driver_override any function matches pcieport, whose probe rejects all but ports.
        stack.enter_context(bind_to_vfio(nvme_with_its_driver, "pcieport"))
    assert (nvme_with_its_driver.driver, nvme_with_its_driver.driver_override) == ("nvme", None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_restored_after_a_signal(nvme_with_its_driver: PciFunction, number: signal.Signals) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(nvme_with_its_driver)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout
        assert child.stdout.readline() == "vfio-pci\n"
        assert nvme_with_its_driver.driver == "vfio-pci"
        child.send_signal(number)
        child.wait(60)
    assert child.returncode in (128 + number, -number)
    assert nvme_with_its_driver.driver == "nvme"


def test_unknown_driver_is_rejected(nvme_with_its_driver: PciFunction) -> None:
    with pytest.raises(LackingError, match="no PCI driver no-such"), ExitStack() as stack:
        stack.enter_context(bind_to_vfio(nvme_with_its_driver, "no-such"))
    assert nvme_with_its_driver.driver == "nvme"


def test_disk_in_use_is_rejected(nvme_with_its_driver: PciFunction) -> None:
    [disk] = nvme_with_its_driver.path.glob("nvme/*/nvme*n1")
    exclusive = os.open(Path("/dev") / disk.name, os.O_RDONLY | os.O_EXCL)
    try:
        with pytest.raises(UsageError, match=r"is in use by the host \(disk"), ExitStack() as stack:
            stack.enter_context(bind_to_vfio(nvme_with_its_driver))
    finally:
        os.close(exclusive)
    assert nvme_with_its_driver.driver == "nvme"


def test_bridge_is_rejected() -> None:
    bridges = [function for function in list_functions() if function.is_bridge]
    if not bridges:
        pytest.skip("this machine has no PCI bridge: python -m pyvmm lab test")
    with pytest.raises(UsageError, match="is in use by the host"), ExitStack() as stack:
        stack.enter_context(bind_to_vfio(bridges[0]))


# As depmod writes them.
ALIASES = [
    ("vfio_pci:v*d*sv*sd*bc*sc*i*", "vfio_pci"),
    ("vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i*", "mlx5_vfio_pci"),
    ("vfio_pci:v00001AF4d00001041sv*sd*bc*sc*i*", "virtio_vfio_pci"),
]


@pytest.mark.parametrize(
    ("modalias", "module"),
    [
        ("pci:v000015B3d0000101Esv000015B3sd00000058bc02sc00i00", "mlx5_vfio_pci"),
        ("pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00", "virtio_vfio_pci"),
        ("pci:v000015B3d0000101Dsv000015B3sd00000058bc02sc00i00", "vfio_pci"),
    ],
    ids=["mlx5", "virtio", "no variant"],
)
def test_variant_driver_is_preferred(modalias: str, module: str) -> None:
    assert vfio_module_for(modalias, ALIASES) == vfio_module_for(modalias, ALIASES[::-1]) == module
    assert vfio_module_for(modalias, []) == "vfio_pci"


def test_vfio_pci_is_the_default_driver(function: PciFunction) -> None:
    assert vfio_driver_for(function) == "vfio-pci"
