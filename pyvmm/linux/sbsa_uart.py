# SPDX-License-Identifier: GPL-2.0-only
"""The guest's UART: an SBSA generic UART (Arm BSA, appendix "SBSA Generic UART").

It is the part of a PL011 that Linux's ``arm,sbsa-uart`` uses. Transmission is immediate.
"""

from collections import deque
from collections.abc import Callable

SIZE = 0x1000
# Registers, by byte offset.
DR, FR, IMSC, RIS, MIS, ICR = 0x00, 0x18, 0x38, 0x3C, 0x40, 0x44
_FR_RXFE, _FR_TXFE = 1 << 4, 1 << 7
_RX, _TX, _RX_TIMEOUT = 1 << 4, 1 << 5, 1 << 6


class SbsaUart:
    """A UART whose transmit FIFO is always empty.

    Attributes:
        registers: the register page. The guest may read it without this object while `waiting` is
            0: only a read of DR with received bytes has a side effect.
    """

    def __init__(
        self,
        output: Callable[[bytes], object],
        interrupt: Callable[[bool], object],
        registers: memoryview | None = None,
    ) -> None:
        """Transmit to `output`, and call `interrupt` with each new level of the interrupt line."""
        self.registers = registers or memoryview(bytearray(SIZE))
        self._output = output
        self._interrupt = interrupt
        self._received: deque[int] = deque()
        self._enabled = 0
        self._level = False
        self._update()

    @property
    def waiting(self) -> int:
        """Return the number of received bytes that the guest has not read."""
        return len(self._received)

    def receive(self, data: bytes) -> None:
        """Let the guest receive `data`."""
        self._received += data
        self._update()

    def read(self, offset: int, size: int) -> int:
        """Read a register; a read of DR takes the oldest received byte, or 0."""
        if offset == DR:
            byte = self._received.popleft() if self._received else 0
            self._update()
            return byte
        return int.from_bytes(self.registers[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register. Only DR and IMSC have an effect: the interrupts are levels."""
        if offset == DR:
            self._output(bytes((value & 0xFF,)))
        elif offset == IMSC:
            self._enabled = value & 0xFFFF
            self._update()

    def _update(self) -> None:
        flags, raw = _FR_TXFE, _TX
        if self._received:
            raw |= _RX | _RX_TIMEOUT
        else:
            flags |= _FR_RXFE
        masked = raw & self._enabled
        for register, value in ((FR, flags), (IMSC, self._enabled), (RIS, raw), (MIS, masked)):
            self.registers[register : register + 4] = value.to_bytes(4, "little")
        if self._level != bool(masked):
            self._level = bool(masked)
            self._interrupt(self._level)
