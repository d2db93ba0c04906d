# SPDX-License-Identifier: GPL-2.0-only
from dataclasses import dataclass, field

import pytest

from pyvmm.linux.sbsa_uart import DR, FR, ICR, IMSC, MIS, RIS, SbsaUart

RXFE, TXFE = 0x10, 0x80
RX, TX, TIMEOUT = 0x10, 0x20, 0x40


@dataclass
class Wires:
    """What a UART does to the outside."""

    sent: bytearray = field(default_factory=bytearray)
    levels: list[bool] = field(default_factory=list)


@pytest.fixture
def wires() -> Wires:
    return Wires()


@pytest.fixture
def uart(wires: Wires) -> SbsaUart:
    return SbsaUart(wires.sent.extend, wires.levels.append)


def test_transmits_the_low_byte(uart: SbsaUart, wires: Wires) -> None:
    uart.write(DR, 4, 0xFF41)
    uart.write(DR, 1, ord("b"))
    assert wires.sent == b"Ab"
    assert uart.read(FR, 4) == TXFE | RXFE


def test_transmit_interrupt_is_a_level(uart: SbsaUart, wires: Wires) -> None:
    assert (uart.read(RIS, 4), uart.read(MIS, 4), wires.levels) == (TX, 0, [])
    uart.write(IMSC, 2, TX)
    uart.write(ICR, 2, TX)
    assert (uart.read(IMSC, 4), uart.read(MIS, 4), wires.levels) == (TX, TX, [True])
    uart.write(IMSC, 2, RX)
    assert (uart.read(MIS, 4), wires.levels) == (0, [True, False])


def test_receives(uart: SbsaUart, wires: Wires) -> None:
    uart.write(IMSC, 4, RX | TIMEOUT)
    uart.receive(b"ok")
    assert (uart.waiting, uart.read(FR, 4), uart.read(MIS, 4)) == (2, TXFE, RX | TIMEOUT)
    assert [uart.read(DR, 4), uart.read(DR, 4)] == list(b"ok")
    assert (uart.waiting, uart.read(FR, 4), wires.levels) == (0, TXFE | RXFE, [True, False])
    assert uart.read(DR, 4) == 0


@pytest.mark.parametrize("offset", [0x04, 0x30, 0xFF0, 0xFFE])
def test_other_registers_read_as_zero(uart: SbsaUart, wires: Wires, offset: int) -> None:
    uart.write(offset, 4, 0xFFFF_FFFF)
    assert uart.read(offset, 4) == 0
    assert not wires.sent
    assert not wires.levels
