# SPDX-License-Identifier: GPL-2.0-only
"""A terminal in the emulated host (``/dev/hvc0``) that can be attached to this process's."""

import contextlib
import os
import socket
import termios
import tty
from collections.abc import Callable, Iterator
from typing import Self

from pyvmm.errors import UsageError
from pyvmm.lab.virtio_ports import VirtioPorts

_CHUNK = 1 << 16


class Terminal:
    """The virtio console of one boot."""

    DEVICE = "/dev/hvc0"

    def __init__(self) -> None:
        """Raise `UsageError` if stdin is not a terminal."""
        if not os.isatty(0):
            raise UsageError("stdin is not a terminal: an interactive shell needs one")

    def __enter__(self) -> Self:
        """Create the sockets."""
        self._socket, self._qemu_socket = socket.socketpair()
        return self

    def __exit__(self, *raised: object) -> None:
        """Close the sockets."""
        self._socket.close()
        self._qemu_socket.close()

    def descriptors(self) -> list[int]:
        """Return the file descriptors that QEMU must inherit."""
        return [self._qemu_socket.fileno()]

    def arguments(self) -> list[str]:
        """Return QEMU's arguments for the console."""
        chardev = f"socket,id=terminal,fd={self._qemu_socket.fileno()}"
        return ["-chardev", chardev, "-device", "virtconsole,chardev=terminal,nr=0"]

    def attach(self, ports: VirtioPorts, until: Callable[[], bool] = lambda: False) -> None:
        """Connect this process's terminal until `until()` is true or the host ends."""
        keyboard, screen = 0, 1
        with (
            _raw_mode(keyboard),
            ports.relay_also(keyboard, self._socket.sendall),
            ports.relay_also(self._socket.fileno(), lambda data: os.write(screen, data)),
        ):
            ports.relay(until=until)
            with contextlib.suppress(BlockingIOError):
                while data := self._socket.recv(_CHUNK, socket.MSG_DONTWAIT):
                    os.write(screen, data)


@contextlib.contextmanager
def _raw_mode(descriptor: int) -> Iterator[None]:
    """Pass every key through, including Ctrl-C."""
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
