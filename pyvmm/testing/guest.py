# SPDX-License-Identifier: GPL-2.0-only
"""The fixture `guest`: assembly text in, typed exits out.

A guest starts with its arguments in ``x0``, ``x1``, … (``rdi``, ``rsi``, ``rdx``, … on x86-64),
its MMU on, and its interrupts masked; where its text ends, it powers off. Every memslot is mapped
at its GPA as write-back memory, and what is left of the first 4 GiB as device memory. Keep what is
to be looked at afterwards out of ``x0`` to ``x3``: the call that powers off has its results there.
"""

import functools
import tempfile
import threading
from collections.abc import Iterator
from collections.abc import Mapping as TextOf
from pathlib import Path

import pytest

from pyvmm.arch.native import native
from pyvmm.arch.page_tables import MemoryType, PageTables, Window, identity
from pyvmm.errors import LackingError
from pyvmm.guest.assemble import assemble
from pyvmm.kvm import System, Vcpu, Vm
from pyvmm.kvm.exits import Exit, Interrupted, Io, Mmio
from pyvmm.machine import ENTRY, RAM_BASE
from pyvmm.memory import Mapping
from pyvmm.testing.expect import Expected, Unexpected, describe

_REST = 1 << 32
# PSCI SYSTEM_OFF; what comes before may jump over none of it.
_END = {"arm64": "movz w0, #0x8400, lsl #16; movk w0, #8; hvc #0", "x86_64": "hlt"}
_GOING_ON = (Mmio, Io)  # the guest waits for an answer, and has not ended


class Guest:
    """Runs guests in the test's VM, on its vCPU and in its RAM.

    Attributes:
        vm, vcpu, ram: the fixtures of those names.
        windows: what a guest's page tables map otherwise than usual; add to it before a run.
        run: the latest.
    """

    def __init__(self, system: System, vm: Vm, vcpu: Vcpu, ram: Mapping) -> None:
        self.arch = native()
        self.vm, self.vcpu, self.ram = vm, vcpu, ram
        self.windows: list[Window] = []
        self.run: GuestRun | None = None
        self._system = system

    def __call__(
        self, text: str | TextOf[str, str], *arguments: int, seconds: float = 30
    ) -> "GuestRun":
        """Load a guest of this assembly text; it runs as its exits are asked for.

        `text` may be one for each architecture: ``{"arm64": …, "x86_64": …}``. `seconds` is how
        long the guest may go without an exit. Raises `PyvmmError` where the text is wrong; skips
        where there is none for this architecture, or no assembler.
        """
        source = text if isinstance(text, str) else text.get(self.arch.NAME)
        if source is None:
            pytest.skip(f"this guest is for {', '.join(text)} alone: pytest --lab runs arm64's")
        code = _assembled(f"{source}\n{_END[self.arch.NAME]}\n", self.arch.NAME)
        self.ram.write(ENTRY - RAM_BASE, code)
        tables = _tables(self._mapped())
        self.ram.write(0, tables.image)
        self.arch.prepare(self._system, self.vm, self.vcpu)
        self.arch.enter(self.vcpu, ENTRY, arguments, tables)
        self.run = GuestRun(self, seconds)
        return self.run

    def _mapped(self) -> tuple[Window, ...]:
        windows = list(self.windows)
        for slot in self.vm.memslots:
            for start, end in _uncovered(slot.gpa, slot.end, windows):
                windows.append(identity(start, end - start, executable=True))
        for start, end in _uncovered(0, _REST, windows):
            windows.append(identity(start, end - start, MemoryType.DEVICE))
        return tuple(windows)


class GuestRun:
    """A guest that runs: its exits one after the other, each entered when it is asked for.

    Attributes:
        exit: the latest, None before the first.
    """

    def __init__(self, guest: Guest, seconds: float) -> None:
        self.exit: Exit | None = None
        self._guest = guest
        self._seconds = seconds
        self._count = 0

    def expects(self, *expected: Expected) -> "GuestRun":
        """GuestRun on, and compare the next exits with these; raises `Unexpected`.

        A read gets what `Expected.gives` says. The guest is left at the last of them: mend what
        it stumbled over, and call this again.
        """
        __tracebackhide__ = True
        for each in expected:
            exit = self.step()
            if not each.matches(exit):
                raise Unexpected(f"exit {self._count} is {describe(exit)}, expected {each}")
            self._answer(exit, each.answer)
        return self

    def step(self) -> Exit:
        """Enter the guest until its next exit. Raises `Unexpected` where none comes in time."""
        __tracebackhide__ = True
        vcpu = self._guest.vcpu
        watchdog = threading.Timer(self._seconds, vcpu.stop)
        watchdog.daemon = True
        watchdog.start()
        try:
            for exit in vcpu.exits():
                if not isinstance(exit, Interrupted) or vcpu.stopping:
                    break
        finally:
            watchdog.cancel()
        self.exit, self._count = exit, self._count + 1
        if isinstance(exit, Interrupted):
            vcpu.resume()
            raise Unexpected(f"the guest made no exit within {self._seconds:g} s")
        return exit

    def __iter__(self) -> Iterator[Exit]:
        """The exits to the first that is no MMIO and no port I/O, whose reads get zeroes."""
        while True:
            exit = self.step()
            yield exit
            if not isinstance(exit, _GOING_ON):
                return
            self._answer(exit, 0)

    def __getitem__(self, register: str) -> int:
        """A register of the guest's, by the names of `pyvmm.arch`: ``run["x1"]``."""
        return self._guest.arch.read(self._guest.vcpu, register)

    def _answer(self, exit: Exit, value: int) -> None:
        if isinstance(exit, _GOING_ON) and not exit.write:
            size = exit.size * exit.count if isinstance(exit, Io) else 8
            self._guest.vcpu.answer(value.to_bytes(size, "little"))


# Most tests of a module have the same memslots, and many the same text.
@functools.lru_cache
def _tables(windows: tuple[Window, ...]) -> PageTables:
    return native().build_page_tables(RAM_BASE, windows)


@functools.lru_cache
def _assembled(source: str, arch: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="pyvmm-") as directory:
        file = Path(directory, "guest.s")
        file.write_text(source)
        try:
            return assemble(file, arch)
        except LackingError as error:
            pytest.skip(str(error))


def _uncovered(start: int, end: int, windows: list[Window]) -> list[tuple[int, int]]:
    """What of `start` to `end` no window's GVAs are in."""
    found, at = [], start
    for window in sorted(windows, key=lambda window: window.gva):
        if window.gva >= end:
            break
        if at < window.gva:
            found.append((at, window.gva))
        at = max(at, window.gva + window.size)
    return [*found, (at, end)] if at < end else found
