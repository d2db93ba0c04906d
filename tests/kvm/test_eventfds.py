# SPDX-License-Identifier: GPL-2.0-only
import contextlib
import errno
import os
import time
from collections.abc import Iterator

import pytest

from pyvmm.guest import repeat
from pyvmm.guest.payload import Payload
from pyvmm.guest.probe import Op, Probe
from pyvmm.ioctl import IoctlError
from pyvmm.kvm import System, Vm
from pyvmm.kvm.eventfds import ioeventfd, irqfd, set_gsi_routing
from pyvmm.kvm.exits import Halt, Mmio
from pyvmm.machine import Machine
from pyvmm.uapi.kvm import KVM_IRQ_ROUTING_IRQCHIP, kvm_irq_routing_entry
from tests.kvm import irqchips
from tests.kvm.conftest import Touch
from tests.kvm.gpas import DEVICE_GPA
from tests.process import open_fds

PORT = 0x80
GSI, PIN = 9, 11


def write(value: int, width: int = 4) -> Probe:
    return Probe(DEVICE_GPA, width, Op.WRITE, value)


def test_write_signals_without_an_exit(machine: Machine, touch: Touch) -> None:
    with ioeventfd(machine.vm, DEVICE_GPA, 4) as eventfd:
        outcome, _ = touch(write(1), write(2), write(3))
        assert "mmio" not in outcome.exits
        assert os.eventfd_read(eventfd) == 3


@pytest.mark.parametrize(
    "probe",
    [write(1, 2), Probe(DEVICE_GPA, 4), Probe(DEVICE_GPA + 4, 4)],
    ids=["narrower", "read", "next register"],
)
def test_other_accesses_exit(machine: Machine, touch: Touch, probe: Probe) -> None:
    with ioeventfd(machine.vm, DEVICE_GPA, 4) as eventfd:
        outcome, _ = touch(probe)
        assert isinstance(outcome.last_exit, Mmio)
        with pytest.raises(BlockingIOError):
            os.eventfd_read(eventfd)


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_size_0_matches_any_width(machine: Machine, touch: Touch, width: int) -> None:
    with ioeventfd(machine.vm, DEVICE_GPA, 0) as eventfd:
        touch(write(1, width))
        assert os.eventfd_read(eventfd) == 1


def test_datamatch(machine: Machine, touch: Touch) -> None:
    with ioeventfd(machine.vm, DEVICE_GPA, 4, match=7) as eventfd:
        outcome, _ = touch(write(7), write(8))
        assert outcome.last_exit == Mmio(DEVICE_GPA, 4, True, 8)
        assert os.eventfd_read(eventfd) == 1


@pytest.mark.needs_arch("x86_64")
def test_port(machine: Machine) -> None:
    machine.load(Payload.builtin("exits", machine.arch.NAME))
    machine.enter(repeat.pack(5, PORT))
    with ioeventfd(machine.vm, PORT, 1, port=True) as eventfd:
        assert machine.run().last_exit == Halt()
        assert os.eventfd_read(eventfd) == 5


def test_ioeventfd_is_detached_at_the_end(machine: Machine, touch: Touch) -> None:
    before = open_fds()
    with pytest.raises(ZeroDivisionError), ioeventfd(machine.vm, DEVICE_GPA, 4):
        _ = 1 / 0
    assert open_fds() == before
    outcome, _ = touch(write(1))
    assert outcome.last_exit == Mmio(DEVICE_GPA, 4, True, 1)


def test_address_in_use(vm: Vm) -> None:
    with ioeventfd(vm, DEVICE_GPA, 4):
        before = open_fds()
        with pytest.raises(IoctlError, match="KVM_IOEVENTFD") as failure:
            with ioeventfd(vm, DEVICE_GPA, 4):
                pass
        assert failure.value.errno == errno.EEXIST
        assert open_fds() == before


@contextlib.contextmanager
def new_eventfd() -> Iterator[int]:
    number = os.eventfd(0)
    try:
        yield number
    finally:
        os.close(number)


def wait_for(asserted: irqchips.Asserted, pin: int) -> bool:
    """Wait until `pin` is asserted: KVM injects the interrupt from a workqueue."""
    for _ in range(2000):
        if asserted(pin):
            return True
        time.sleep(0.005)
    return False


def test_irqfd_injects_an_interrupt(kvm: System, vm: Vm) -> None:
    asserted = irqchips.create(kvm, vm)
    with new_eventfd() as trigger, new_eventfd() as resample:
        # Level-triggered: the line stays asserted until the guest acknowledges it.
        with irqfd(vm, trigger, PIN, resample):
            assert not asserted(PIN)
            os.eventfd_write(trigger, 1)
            assert wait_for(asserted, PIN)


def test_gsi_routing(kvm: System, vm: Vm) -> None:
    asserted = irqchips.create(kvm, vm)
    entry = kvm_irq_routing_entry(gsi=GSI, type=KVM_IRQ_ROUTING_IRQCHIP)
    entry.u.irqchip.irqchip, entry.u.irqchip.pin = irqchips.CHIP, PIN
    set_gsi_routing(vm, [entry])
    with new_eventfd() as trigger, new_eventfd() as resample:
        with irqfd(vm, trigger, GSI, resample):
            os.eventfd_write(trigger, 1)
            assert wait_for(asserted, PIN)
            assert not asserted(GSI)


def test_irqfd_is_detached_at_the_end(kvm: System, vm: Vm) -> None:
    asserted = irqchips.create(kvm, vm)
    with new_eventfd() as trigger, new_eventfd() as resample:
        with irqfd(vm, trigger, PIN, resample):
            pass
        os.eventfd_write(trigger, 1)
        with irqfd(vm, trigger, PIN + 1, resample):  # finds the eventfd signalled
            assert wait_for(asserted, PIN + 1)
        assert not asserted(PIN)


def test_irqfd_without_an_irqchip(vm: Vm) -> None:
    with new_eventfd() as trigger, pytest.raises(IoctlError, match="KVM_IRQFD") as failure:
        with irqfd(vm, trigger, PIN):
            pass
    assert failure.value.errno in (errno.EINVAL, errno.EAGAIN, errno.ENODEV)
