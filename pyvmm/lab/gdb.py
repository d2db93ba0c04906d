# SPDX-License-Identifier: GPL-2.0-only
"""A client of QEMU's gdb stub, which reads registers and memory of the stopped machine.

Implements the necessary subset of gdb's remote serial protocol (GDB manual, appendix E) and
QEMU's ``qemu.PhyMemMode`` extension.
"""

import re
import socket
from pathlib import Path

from pyvmm.closeable import Closeable

_CPSR = 33  # register number in org.gnu.gdb.aarch64.core, where x0 is 0
_REGISTER = re.compile(r'<reg name="(\w+)"[^>]* regnum="(\d+)"')
_CHUNK = 0x800  # bytes per request; QEMU's packets hold 4096 characters
_TIMEOUT = 30.0  # seconds to wait for an answer, on a busy machine


class GdbError(OSError):
    """An error or an invalid answer from the gdb stub."""


class GdbClient(Closeable):
    """A connection to QEMU's gdb stub; every CPU is stopped until it is closed."""

    def __init__(self, path: Path) -> None:
        """Connect to the Unix socket `path`, and stop every CPU. Raises `OSError`."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._buffer = b""
        self._numbers: dict[str, int] = {}
        try:
            self._socket.settimeout(_TIMEOUT)
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def cpus(self) -> list[str]:
        """Return the IDs of the CPUs, for `select`."""
        found, answer = [], self._ask("qfThreadInfo")
        while answer.startswith(b"m"):
            found += answer[1:].decode().split(",")
            answer = self._ask("qsThreadInfo")
        return found

    def select(self, cpu: str) -> None:
        """Select the CPU whose registers are read."""
        self._expect_ok(f"Hg{cpu}")

    def exception_level(self) -> int:
        """Return PSTATE.EL, the exception level (0 to 3)."""
        return self._register(_CPSR) >> 2 & 0b11

    def system_register(self, name: str) -> int:
        """Return a system register by its Arm ARM name. Raises `GdbError` if QEMU lacks it."""
        if not self._numbers:
            text = self._features("system-registers.xml")
            self._numbers = {name: int(number) for name, number in _REGISTER.findall(text)}
        if name not in self._numbers:
            raise GdbError(f"QEMU has no register {name}")
        return self._register(self._numbers[name])

    def physical(self, pa: int, size: int) -> bytes:
        """Read `size` bytes of physical memory; unpopulated addresses read as zeroes."""
        self._expect_ok("Qqemu.PhyMemMode:1")
        answer = self._ask(f"m{pa:x},{size:x}")
        if len(answer) != 2 * size:
            raise GdbError(f"QEMU cannot read {size} bytes at PA {pa:#x}: {answer!r}")
        return bytes.fromhex(answer.decode())

    def close(self) -> None:
        """Detach, and let the CPUs continue."""
        with self._socket:
            self._ask("D")

    def _register(self, number: int) -> int:
        answer = self._ask(f"p{number:x}")
        if answer[:1] in (b"", b"E", b"x"):
            raise GdbError(f"QEMU cannot read register {number}: {answer!r}")
        return int.from_bytes(bytes.fromhex(answer.decode()), "little")

    def _features(self, name: str) -> str:
        self._ask("qXfer:features:read:target.xml:0,fff")  # makes QEMU create the others
        text = b""
        while True:
            answer = self._ask(f"qXfer:features:read:{name}:{len(text):x},{_CHUNK:x}")
            if answer[:1] not in (b"l", b"m"):
                raise GdbError(f"QEMU has no {name}: {answer!r}")
            text += re.sub(rb"}(.)", lambda m: bytes([m[1][0] ^ 0x20]), answer[1:], flags=re.DOTALL)
            if answer.startswith(b"l"):
                return text.decode()

    def _expect_ok(self, packet: str) -> None:
        if (answer := self._ask(packet)) != b"OK":
            raise GdbError(f"QEMU rejected {packet}: {answer!r}")

    def _ask(self, packet: str) -> bytes:
        data = packet.encode()
        self._socket.sendall(b"$%s#%02x" % (data, sum(data) & 0xFF))
        while True:
            begin, end = self._buffer.find(b"$"), self._buffer.find(b"#")
            if 0 <= begin < end and len(self._buffer) >= end + 3:
                break
            if not (more := self._socket.recv(0x10000)):
                raise GdbError("QEMU closed the connection")
            self._buffer += more
        answer, self._buffer = self._buffer[begin + 1 : end], self._buffer[end + 3 :]
        self._socket.sendall(b"+")
        return answer
