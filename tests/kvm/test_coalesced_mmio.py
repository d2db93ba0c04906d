# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.guest import repeat
from pyvmm.guest.payload import Payload
from pyvmm.guest.probe import Op, Probe
from pyvmm.kvm.coalesced_mmio import CoalescedRing, CoalescedWrite, coalesced_mmio
from pyvmm.kvm.exits import Halt, Mmio
from pyvmm.machine import Machine
from tests.kvm.conftest import Touch
from tests.kvm.gpas import DEVICE_GPA

PORT = 0x80


def writes(*values: int) -> list[Probe]:
    return [Probe(DEVICE_GPA + 4 * n, 4, Op.WRITE, value) for n, value in enumerate(values)]


def test_writes_are_stored_in_the_ring(machine: Machine, touch: Touch) -> None:
    ring = CoalescedRing(machine.vm, machine.vcpu)
    with coalesced_mmio(machine.vm, DEVICE_GPA, 0x100):
        outcome, _ = touch(*writes(7, 8), Probe(DEVICE_GPA + 8, 1, Op.WRITE, 9))
        assert "mmio" not in outcome.exits
        assert list(ring.drain()) == [
            CoalescedWrite(DEVICE_GPA, 4, 7, False),
            CoalescedWrite(DEVICE_GPA + 4, 4, 8, False),
            CoalescedWrite(DEVICE_GPA + 8, 1, 9, False),
        ]
        assert list(ring.drain()) == []


def test_write_to_a_full_ring_exits(machine: Machine, touch: Touch) -> None:
    ring = CoalescedRing(machine.vm, machine.vcpu)
    count = 400  # a ring of 4 KiB is full before; with 64 KiB pages no write exits
    with coalesced_mmio(machine.vm, DEVICE_GPA, 4 * count):
        outcome, _ = touch(*writes(*range(count)))
        drained = list(ring.drain())
    assert [write.value for write in drained] == list(range(len(drained)))
    if len(drained) < count:
        assert outcome.last_exit == Mmio(DEVICE_GPA + 4 * len(drained), 4, True, len(drained))


def test_reads_exit(machine: Machine, touch: Touch) -> None:
    with coalesced_mmio(machine.vm, DEVICE_GPA, 0x100):
        outcome, _ = touch(Probe(DEVICE_GPA))
    assert outcome.last_exit == Mmio(DEVICE_GPA, 4, False, 0)


def test_zone_is_unregistered(machine: Machine, touch: Touch) -> None:
    with coalesced_mmio(machine.vm, DEVICE_GPA, 0x100):
        pass
    outcome, _ = touch(*writes(7))
    assert outcome.last_exit == Mmio(DEVICE_GPA, 4, True, 7)


@pytest.mark.needs_arch("x86_64")
def test_port_writes_are_coalesced(machine: Machine) -> None:
    ring = CoalescedRing(machine.vm, machine.vcpu)
    machine.load(Payload.builtin("exits", machine.arch.NAME))
    machine.enter(repeat.pack(3, PORT))
    with coalesced_mmio(machine.vm, PORT, 1, port=True):
        assert machine.run().last_exit == Halt()
        assert list(ring.drain()) == [CoalescedWrite(PORT, 1, 0, True)] * 3
