# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.guest.probe import WIDTHS, Op, Probe
from pyvmm.kvm.exits import Io, Mmio, decode
from pyvmm.machine import Machine
from pyvmm.memory import PAGE_SIZE
from pyvmm.uapi import kvm as uapi
from tests.kvm.conftest import Touch
from tests.kvm.exits.run_page import run_page
from tests.kvm.gpas import DEVICE_GPA

VALUE = 0x8877_6655_4433_2211


class Register:
    """A device that records writes and reads as `VALUE`."""

    def __init__(self) -> None:
        self.written: list[tuple[int, int, int]] = []

    def read(self, offset: int, size: int) -> int:
        return VALUE & ((1 << 8 * size) - 1)

    def write(self, offset: int, size: int, value: int) -> None:
        self.written.append((offset, size, value))


@pytest.fixture
def register(machine: Machine) -> Register:
    register = Register()
    machine.mmio.attach(DEVICE_GPA, 0x100, register)
    return register


@pytest.mark.parametrize("width", WIDTHS)
def test_guest_reads_the_answer(touch: Touch, register: Register, width: int) -> None:
    outcome, [answer] = touch(Probe(DEVICE_GPA + 8, width))
    assert answer.value == VALUE & ((1 << 8 * width) - 1)
    assert outcome.exits["mmio"] == 1


@pytest.mark.parametrize("width", WIDTHS)
def test_guest_write_reaches_the_device(touch: Touch, register: Register, width: int) -> None:
    value = VALUE & ((1 << 8 * width) - 1)
    touch(Probe(DEVICE_GPA + 8, width, Op.WRITE, value))
    assert register.written == [(8, width, value)]


@pytest.mark.parametrize(
    ("probe", "exit"),
    [
        (Probe(DEVICE_GPA, 2), Mmio(DEVICE_GPA, 2, False, 0)),
        (Probe(DEVICE_GPA, 8, Op.WRITE, VALUE), Mmio(DEVICE_GPA, 8, True, VALUE)),
    ],
    ids=["read", "write"],
)
def test_access_without_a_device(touch: Touch, probe: Probe, exit: Mmio) -> None:
    outcome, _ = touch(probe)
    assert outcome.last_exit == exit


@pytest.mark.parametrize(
    ("size", "value"), [(1, 0x11), (2, 0x2211), (4, 0x44332211), (8, VALUE), (1 << 31, VALUE)]
)
def test_mmio_payload(size: int, value: int) -> None:
    data = VALUE.to_bytes(8, "little")
    write = run_page(uapi.KVM_EXIT_MMIO, "mmio", phys_addr=0x1000, len=size, is_write=1, data=data)
    assert decode(write) == Mmio(0x1000, size, True, value)
    read = run_page(uapi.KVM_EXIT_MMIO, "mmio", phys_addr=0x1000, len=size, data=data)
    assert decode(read) == Mmio(0x1000, size, False, 0)


@pytest.mark.parametrize(("size", "count"), [(1, 1), (2, 1), (4, 1), (1, 5), (4, 3)])
def test_io_payload(size: int, count: int) -> None:
    data = bytes(range(1, size * count + 1))
    port = {"size": size, "port": 0x3F8, "count": count, "data_offset": PAGE_SIZE}
    out = run_page(uapi.KVM_EXIT_IO, "io", data, direction=uapi.KVM_EXIT_IO_OUT, **port)
    assert decode(out) == Io(0x3F8, size, count, True, data)
    into = run_page(uapi.KVM_EXIT_IO, "io", data, direction=uapi.KVM_EXIT_IO_IN, **port)
    assert decode(into) == Io(0x3F8, size, count, False, b"")


@pytest.mark.parametrize(
    ("size", "offset", "data"),
    [(0, PAGE_SIZE, b""), (3, PAGE_SIZE, b"abc"), (4, PAGE_SIZE + 2, b"cd"), (4, 1 << 40, b"")],
)
def test_io_payload_that_the_kernel_did_not_write(size: int, offset: int, data: bytes) -> None:
    port = {"size": size, "port": 0x3F8, "count": 1, "data_offset": offset}
    out = run_page(uapi.KVM_EXIT_IO, "io", b"abcd", direction=uapi.KVM_EXIT_IO_OUT, **port)
    assert decode(out) == Io(0x3F8, size, 1, True, data)
