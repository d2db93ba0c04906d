# SPDX-License-Identifier: GPL-2.0-only
"""Interrupts of the lab's devices, counted by eventfds."""

import pytest

from pyvmm.ioctl import IoctlError
from pyvmm.vfio.iommu_modes import open_device
from pyvmm.vfio.sysfs import PciFunction
from pyvmm.vfio.vfio_device import VfioDevice
from tests.vfio.edu import Edu
from tests.vfio.eventfd import EventFd

SETTLE = 0.3  # seconds to wait before an eventfd counts as not signalled


def test_intx_fires_once_until_it_is_unmasked(edu_in_mode: Edu, eventfd: EventFd) -> None:
    edu, intx = edu_in_mode, edu_in_mode.device.irqs["INTx"]
    assert "automasked" in intx.flags
    intx.enable([eventfd.number])
    edu.write(edu.IRQ_RAISE, 1)
    assert eventfd.count() == 1
    # The line is still high, and the kernel masked the interrupt: no more until it is unmasked.
    edu.write(edu.IRQ_RAISE, 2)
    assert eventfd.count(SETTLE) == 0
    intx.unmask()
    assert eventfd.count() == 1
    edu.write(edu.IRQ_ACK, 3)
    intx.unmask()
    assert eventfd.count(SETTLE) == 0


def test_intx_is_unmasked_through_an_eventfd(edu: Edu, eventfd: EventFd) -> None:
    intx, resample = edu.device.irqs["INTx"], EventFd()
    intx.enable([eventfd.number])
    intx.unmask_on(resample.number)
    edu.write(edu.IRQ_RAISE, 1)
    assert eventfd.count() == 1
    resample.signal()
    assert eventfd.count() == 1
    resample.close()


def test_msi_per_interrupt(edu_in_mode: Edu, eventfd: EventFd) -> None:
    edu, msi = edu_in_mode, edu_in_mode.device.irqs["MSI"]
    msi.enable([eventfd.number])
    edu.device.config.enable_bus_master()
    for _ in range(3):
        edu.write(edu.IRQ_RAISE, 1)
        assert eventfd.count() == 1
        edu.write(edu.IRQ_ACK, 1)


def test_no_interrupt_while_masked(edu: Edu, eventfd: EventFd) -> None:
    intx = edu.device.irqs["INTx"]
    intx.enable([eventfd.number])
    intx.mask()
    edu.write(edu.IRQ_RAISE, 1)
    assert eventfd.count(SETTLE) == 0
    intx.unmask()
    assert eventfd.count() == 1


def test_no_interrupt_after_disable(edu: Edu, eventfd: EventFd) -> None:
    msi = edu.device.irqs["MSI"]
    msi.enable([eventfd.number])
    edu.device.config.enable_bus_master()
    msi.disable()
    edu.write(edu.IRQ_RAISE, 1)
    assert eventfd.count(SETTLE) == 0


def test_eventfd_per_msix_vector(nvme: VfioDevice) -> None:
    msix, events = nvme.irqs["MSI-X"], [EventFd(), EventFd()]
    first, second = events
    msix.enable([first.number, None, second.number])
    msix.trigger(2)
    assert (first.count(SETTLE), second.count()) == (0, 1)
    msix.trigger(0)
    assert (first.count(), second.count(SETTLE)) == (1, 0)
    with pytest.raises(IoctlError, match="VFIO_DEVICE_SET_IRQS on the vfio-device fd: EINVAL"):
        msix.enable([None] * (msix.count + 1))
    for event in events:
        event.close()


def test_intx_and_msi_exclude_each_other(edu: Edu, eventfd: EventFd) -> None:
    edu.device.irqs["INTx"].enable([eventfd.number])
    with pytest.raises(IoctlError, match="EINVAL"):
        edu.device.irqs["MSI"].enable([eventfd.number])


def test_req_interrupt(function: PciFunction, eventfd: EventFd) -> None:
    with open_device(function.bdf) as device:
        device.irqs["REQ"].enable([eventfd.number])
        device.irqs["REQ"].trigger()
        assert eventfd.count() == 1
