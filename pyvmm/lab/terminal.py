# SPDX-License-Identifier: GPL-2.0-only
"""A terminal in the emulated host (``/dev/hvc0``) that is now and then this process's own."""

import contextlib
import os
import socket
import termios
import tty
from collections.abc import Callable, Iterator
from typing import Self

from pyvmm.errors import UsageError
from pyvmm.lab.virtio_ports import VirtioPorts


class Terminal:
    """The host's end of the line. Raises `UsageError` where stdin is no terminal."""

    DEVICE = "/dev/hvc0"

    def __init__(self) -> None:
        if not os.isatty(0):
            raise UsageError("stdin is no terminal: a shell needs one")

    def __enter__(self) -> Self:
        self._ours, self._theirs = socket.socketpair()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ours.close()
        self._theirs.close()

    def descriptors(self) -> list[int]:
        """What QEMU inherits."""
        return [self._theirs.fileno()]

    def arguments(self) -> list[str]:
        """QEMU's arguments."""
        chardev = f"socket,id=terminal,fd={self._theirs.fileno()}"
        return ["-chardev", chardev, "-device", "virtconsole,chardev=terminal,nr=0"]

    def attach(self, ports: VirtioPorts, until: Callable[[], bool]) -> None:
        """Give it this process's terminal until something is so, or the host ends."""
        keyboard, screen = 0, 1
        with (
            _raw(keyboard),
            ports.beside(keyboard, self._ours.sendall),
            ports.beside(self._ours.fileno(), lambda data: os.write(screen, data)),
        ):
            ports.relay(until=until)


@contextlib.contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """Every key goes through, Ctrl-C as well."""
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
