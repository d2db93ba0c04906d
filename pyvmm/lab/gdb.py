# SPDX-License-Identifier: GPL-2.0-only
"""A client of QEMU's gdb stub: the emulated machine, stopped and looked at from outside.

As much of gdb's remote serial protocol as that takes (the manual's appendix E), with QEMU's own
``qemu.PhyMemMode``. To connect is to stop every CPU, and `close` lets them go on.
"""

import re
import socket
from pathlib import Path

from pyvmm.closeable import Closeable

_CPSR = 33  # where org.gnu.gdb.aarch64.core has it; x0 is 0
_REGISTER = re.compile(r'<reg name="(\w+)"[^>]* regnum="(\d+)"')
_CHUNK = 0x800  # bytes asked for at once; QEMU's packets hold 4096 characters
_PATIENCE = 30.0  # seconds for an answer, on a busy machine


class GdbError(OSError):
    """The stub refused, or said what cannot be."""


class GdbClient(Closeable):
    """A connection to the stub at a socket's path; the machine stands still meanwhile."""

    def __init__(self, path: Path) -> None:
        """Connect. Raises `OSError`."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._buffer = b""
        self._numbers: dict[str, int] = {}
        try:
            self._socket.settimeout(_PATIENCE)
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def cpus(self) -> list[str]:
        """The CPUs, as `select` takes them."""
        found, answer = [], self._ask("qfThreadInfo")
        while answer.startswith(b"m"):
            found += answer[1:].decode().split(",")
            answer = self._ask("qsThreadInfo")
        return found

    def select(self, cpu: str) -> None:
        """Whose registers are read from now on."""
        self._expect_ok(f"Hg{cpu}")

    def exception_level(self) -> int:
        """PSTATE.EL: 0 to 3."""
        return self._register(_CPSR) >> 2 & 0b11

    def system_register(self, name: str) -> int:
        """A system register by the Arm ARM's name. Raises `GdbError` where there is none."""
        if not self._numbers:
            text = self._features("system-registers.xml")
            self._numbers = {name: int(number) for name, number in _REGISTER.findall(text)}
        if name not in self._numbers:
            raise GdbError(f"QEMU shows no register {name}")
        return self._register(self._numbers[name])

    def physical(self, pa: int, size: int) -> bytes:
        """`size` bytes of physical memory; zeroes where there is none."""
        self._expect_ok("Qqemu.PhyMemMode:1")
        answer = self._ask(f"m{pa:x},{size:x}")
        if len(answer) != 2 * size:
            raise GdbError(f"QEMU does not read {size} bytes at {pa:#x}: {answer!r}")
        return bytes.fromhex(answer.decode())

    def close(self) -> None:
        """Let the machine go on."""
        with self._socket:
            self._ask("D")

    def _register(self, number: int) -> int:
        answer = self._ask(f"p{number:x}")
        if answer[:1] in (b"", b"E", b"x"):
            raise GdbError(f"register {number} cannot be read: {answer!r}")
        return int.from_bytes(bytes.fromhex(answer.decode()), "little")

    def _features(self, name: str) -> str:
        self._ask("qXfer:features:read:target.xml:0,fff")  # QEMU makes the others with it
        text = b""
        while True:
            answer = self._ask(f"qXfer:features:read:{name}:{len(text):x},{_CHUNK:x}")
            if answer[:1] not in (b"l", b"m"):
                raise GdbError(f"QEMU describes no {name}")
            text += re.sub(rb"}(.)", lambda m: bytes([m[1][0] ^ 0x20]), answer[1:], flags=re.DOTALL)
            if answer.startswith(b"l"):
                return text.decode()

    def _expect_ok(self, packet: str) -> None:
        if (answer := self._ask(packet)) != b"OK":
            raise GdbError(f"QEMU's answer to {packet} is {answer!r}")

    def _ask(self, packet: str) -> bytes:
        data = packet.encode()
        self._socket.sendall(b"$%s#%02x" % (data, sum(data) & 0xFF))
        while True:
            begin, end = self._buffer.find(b"$"), self._buffer.find(b"#")
            if 0 <= begin < end and len(self._buffer) >= end + 3:
                break
            if not (more := self._socket.recv(0x10000)):
                raise GdbError("QEMU has gone")
            self._buffer += more
        answer, self._buffer = self._buffer[begin + 1 : end], self._buffer[end + 3 :]
        self._socket.sendall(b"+")
        return answer
