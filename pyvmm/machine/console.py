# SPDX-License-Identifier: GPL-2.0-only
"""The guest's console: a transmit register."""

from typing import BinaryIO


class Console:
    """A UART that only transmits: a write to offset 0 goes to `output`, every register reads as 0.

    To a guest that only prints, this is a PL011 (UARTDR, and UARTFR without TXFF) or a 16550.
    """

    SIZE = 0x1000  # bytes of GPA space of a PL011
    PORTS = 8  # number of I/O ports of a 16550

    def __init__(self, output: BinaryIO) -> None:
        """Print to `output`."""
        self._output = output

    def read(self, offset: int, size: int) -> int:
        """Return 0: ready to transmit, nothing received."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Print the low byte of a write to offset 0 and flush; ignore other offsets."""
        if offset == 0:
            self._output.write(bytes((value & 0xFF,)))
            self._output.flush()
