# SPDX-License-Identifier: GPL-2.0-only
"""The guest's console: a transmit register."""

from typing import BinaryIO


class Console:
    """Bytes written at offset 0 go to `output` at once; every other register reads as 0.

    That much of a PL011 (UARTDR, and UARTFR saying "never full") or a 16550 is what a guest
    needs to print.
    """

    SIZE = 0x1000  # bytes of GPA space, a PL011's
    PORTS = 8  # x86 ports, a 16550's

    def __init__(self, output: BinaryIO) -> None:
        self._output = output

    def read(self, offset: int, size: int) -> int:
        """0: ready, nothing received."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Print the low byte of what is written to offset 0."""
        if offset == 0:
            self._output.write(bytes((value & 0xFF,)))
            self._output.flush()
