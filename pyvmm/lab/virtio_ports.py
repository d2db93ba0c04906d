# SPDX-License-Identifier: GPL-2.0-only
"""The virtio ports of an emulated host: its command's output and stdin, and how that command ended.

Each port ends at a Unix socket of this process. On the control port, init.sh writes ``kvm`` when
the host is up, then ``exit STATUS`` or ``fail REASON``. It reads ``signal NUMBER`` there, and sends
that signal to the command.
"""

import contextlib
import functools
import math
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, Self

_CHUNK = 1 << 16
_BOOT_TIMEOUT = 180.0  # seconds until init.sh writes to the control port, on a busy machine
_POLL = 1.0  # seconds between two calls of `until` at most


class VirtioPorts:
    """The control port of one boot, one port for each file in `outputs`, and one for stdin.

    Attributes:
        status: the command's exit status, None until it ends.
        failure: why the host could not run the command.
        started: True when init.sh has found KVM.
        expired: the timeout in seconds that expired, or 0.
        last_output: the time.monotonic() of the last output.
    """

    def __init__(self, *outputs: BinaryIO) -> None:
        """Relay the ports after the control port to `outputs`, in this order."""
        self.status: int | None = None
        self.failure = ""
        self.started = False
        self.expired = 0.0
        self.last_output = time.monotonic()
        self._outputs = outputs
        self._control = b""

    def __enter__(self) -> Self:
        """Create the sockets."""
        pairs = [socket.socketpair() for _ in range(1 + len(self._outputs) + 1)]
        self._sockets, self._qemu_sockets = (list(ends) for ends in zip(*pairs, strict=True))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._sockets[0], selectors.EVENT_READ, self._parse_control)
        for end, output in zip(self._sockets[1:-1], self._outputs, strict=True):
            self._selector.register(end, selectors.EVENT_READ, functools.partial(_write, output))
        return self

    def __exit__(self, *raised: object) -> None:
        """Close the sockets."""
        self._selector.close()
        for end in (*self._sockets, *self._qemu_sockets):
            end.close()

    def descriptors(self) -> list[int]:
        """Return the file descriptors that QEMU must inherit."""
        return [end.fileno() for end in self._qemu_sockets]

    def arguments(self) -> list[str]:
        """Return QEMU's arguments: 1 is the control port, then the outputs, then stdin."""
        argv = ["-device", "virtio-serial-device"]
        for number, descriptor in enumerate(self.descriptors(), 1):
            argv += ["-chardev", f"socket,id=stream{number},fd={descriptor}"]
            argv += ["-device", f"virtserialport,chardev=stream{number},nr={number}"]
        return argv

    def send(self, data: bytes) -> None:
        """Write to the command's stdin, if the host still runs."""
        with contextlib.suppress(ConnectionError):  # `relay` notices it too
            self._sockets[-1].sendall(data)

    def relay(
        self, timeout: float | None = None, until: Callable[[], bool] = lambda: False
    ) -> None:
        """Copy output until the command ends, QEMU exits, the timeout expires, or `until()`.

        `timeout` is in seconds; a host that does not start the command expires earlier. Call this
        again after `until()` was true.
        """
        for end in self._qemu_sockets:
            end.close()  # QEMU inherited them
        start = time.monotonic()
        while self._is_active() and not until():
            allowed = timeout if self.started else min(timeout or _BOOT_TIMEOUT, _BOOT_TIMEOUT)
            left = math.inf if allowed is None else start + allowed - time.monotonic()
            ready = self._selector.select(max(0.0, min(left, _POLL)))
            if not ready and allowed is not None and left <= 0:
                self.expired = allowed
                return
            for key, _ in ready:
                self._copy(key)
        if not self._is_active():
            self._drain()

    def send_signal(self, number: int) -> None:
        """Send a signal to the command."""
        with contextlib.suppress(OSError):  # the host has ended
            self._sockets[0].sendall(b"signal %d\n" % number)

    @contextlib.contextmanager
    def relay_also(self, source: int, write: Callable[[bytes], object]) -> Iterator[None]:
        """Let `relay` also copy from file descriptor `source` until the block ends."""
        self._selector.register(source, selectors.EVENT_READ, write)
        try:
            yield
        finally:
            with contextlib.suppress(KeyError):  # unregistered at end of file
                self._selector.unregister(source)

    def _is_active(self) -> bool:
        """Return True if the command may still write: QEMU runs, and init.sh reported no end."""
        running = self._sockets[0] in self._selector.get_map()
        return running and self.status is None and not self.failure

    def _drain(self) -> None:
        # init.sh reports the end after the command's output has reached these sockets.
        keys = self._selector.get_map()
        for end in self._sockets:
            end.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while end.fileno() in keys:
                    self._copy(keys[end.fileno()])

    def _copy(self, key: selectors.SelectorKey) -> None:
        try:
            data = os.read(key.fd, _CHUNK)
        except ConnectionError:
            data = b""
        if data:
            self.last_output = time.monotonic()
            key.data(data)
        else:
            self._selector.unregister(key.fileobj)

    def _parse_control(self, data: bytes) -> None:
        self._control += data
        *lines, self._control = self._control.split(b"\n")
        for line in lines:
            word, _, rest = line.decode(errors="replace").partition(" ")
            if word == "kvm":
                self.started = True
            elif word == "exit":
                try:
                    self.status = int(rest)
                except ValueError:
                    self.failure = f"the control port says {f'exit {rest}'!r}"
            elif word == "fail":
                self.failure = rest


def _write(output: BinaryIO, data: bytes) -> None:
    """Write data now: a command may run for hours between two lines."""
    output.write(data)
    output.flush()
