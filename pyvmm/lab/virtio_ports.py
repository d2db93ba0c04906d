# SPDX-License-Identifier: GPL-2.0-only
"""The emulated host's end of the line: its command's streams, and how that command ended.

Virtio ports, each a socket here. init.sh says on the control port ``kvm`` when it is up,
then ``exit STATUS`` or ``fail REASON``.
"""

import contextlib
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, Self

_CHUNK = 1 << 16
_BOOT = 180.0  # seconds that a host may take to say its first word, on a busy machine


class VirtioPorts:
    """The ports of one run. Without files for its output the command has only the control port."""

    def __init__(self, *outputs: BinaryIO) -> None:
        self.status: int | None = None  # of the command, once it has ended
        self.failure = ""  # why the host could not run it
        self.started = False
        self.late = 0.0  # seconds after which the host was still running, where it was too long
        self._outputs = outputs
        self._control = b""

    def __enter__(self) -> Self:
        pairs = [socket.socketpair() for _ in range(1 + len(self._outputs))]
        self._ours, self._theirs = (list(ends) for ends in zip(*pairs, strict=True))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._ours[0], selectors.EVENT_READ, self._hear)
        for end, output in zip(self._ours[1:], self._outputs, strict=True):
            self._selector.register(end, selectors.EVENT_READ, output.write)
        return self

    def __exit__(self, *raised: object) -> None:
        self._selector.close()
        for end in (*self._ours, *self._theirs):
            end.close()

    def descriptors(self) -> list[int]:
        """What QEMU inherits."""
        return [end.fileno() for end in self._theirs]

    def arguments(self) -> list[str]:
        """QEMU's arguments: port 1 is the control port, the outputs are those from 2 on."""
        argv = ["-device", "virtio-serial-device"]
        for number, descriptor in enumerate(self.descriptors(), 1):
            argv += ["-chardev", f"socket,id=stream{number},fd={descriptor}"]
            argv += ["-device", f"virtserialport,chardev=stream{number},nr={number}"]
        return argv

    def relay(
        self, timeout: float | None = None, until: Callable[[], bool] = lambda: False
    ) -> None:
        """Copy what comes to its place until the host says it is done, ends, or is late.

        Or for now, `until` something is so: then this may be called again.
        """
        for end in self._theirs:
            end.close()  # QEMU has its own
        begin, selector = time.monotonic(), self._selector
        # The command's output has reached its sockets before the host says the word.
        while selector.get_map() and not self.over and not until():
            allowed = timeout if self.started else min(timeout or _BOOT, _BOOT)
            left = None if allowed is None else max(0.0, begin + allowed - time.monotonic())
            ready = selector.select(left)
            if not ready and allowed is not None:
                self.late = allowed
                return
            for key, _ in ready:
                self._copy(selector, key)
        if not selector.get_map() or self.over:
            self._drain()

    @contextlib.contextmanager
    def beside(self, source: int, take: Callable[[bytes], object]) -> Iterator[None]:
        """While the block lasts, `relay` copies what comes from one more descriptor."""
        self._selector.register(source, selectors.EVENT_READ, take)
        try:
            yield
        finally:
            with contextlib.suppress(KeyError):  # it ended, and is gone already
                self._selector.unregister(source)

    def _drain(self) -> None:
        keys = self._selector.get_map()
        for end in self._ours:
            end.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while end.fileno() in keys:
                    self._copy(self._selector, keys[end.fileno()])
        for output in self._outputs:
            output.flush()

    @property
    def over(self) -> bool:
        """Has the host said how the command ended, or why it did not begin?"""
        return self.status is not None or bool(self.failure)

    def _copy(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        try:
            data = os.read(key.fd, _CHUNK)
        except ConnectionError:
            data = b""
        if data:
            key.data(data)
        else:
            selector.unregister(key.fileobj)

    def _hear(self, data: bytes) -> None:
        self._control += data
        *lines, self._control = self._control.split(b"\n")
        for line in lines:
            word, _, rest = line.decode(errors="replace").partition(" ")
            if word == "kvm":
                self.started = True
            elif word == "exit":
                self.status = int(rest)
            elif word == "fail":
                self.failure = rest
