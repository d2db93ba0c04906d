# SPDX-License-Identifier: GPL-2.0-only
"""The fixture `guest`, which runs guests given as assembly text and returns their exits.

A guest starts with its arguments in ``x0``, ``x1``, … (``rdi``, ``rsi``, ``rdx``, … on x86-64), the
MMU on, and interrupts masked. It powers off at the end of its text. Stage 1 maps every memslot at
its GPA as write-back memory, and the rest of the first 4 GiB as Device memory. The PSCI call that
powers off overwrites ``x0`` to ``x3``: use other registers for results.
"""

import functools
import threading
from collections.abc import Iterator
from collections.abc import Mapping as TextOf

import pytest

from pyvmm import scratch_dir
from pyvmm.arch.native import native
from pyvmm.arch.page_tables import MemoryType, PageTables, Window, identity
from pyvmm.errors import LackingError
from pyvmm.guest.assemble import assemble
from pyvmm.kvm import System, Vcpu, Vm
from pyvmm.kvm.exits import Exit, Interrupted, Io, Mmio
from pyvmm.machine import ENTRY, RAM_BASE
from pyvmm.memory import Mapping
from pyvmm.testing.expect import Expected, Unexpected, describe

_DEVICE_END = 1 << 32
# PSCI SYSTEM_OFF on arm64. The text must not branch past it.
_END = {"arm64": "movz w0, #0x8400, lsl #16; movk w0, #8; hvc #0", "x86_64": "hlt"}
_EMULATED = (Mmio, Io)  # exits that the test answers, after which the guest continues


class Guest:
    """A runner of guests in the test's VM, on its vCPU and in its RAM.

    Attributes:
        vm, vcpu, ram: the fixtures of these names.
        windows: mappings that replace the default ones; add to it before a run.
        run: the latest run.
    """

    def __init__(self, system: System, vm: Vm, vcpu: Vcpu, ram: Mapping) -> None:
        """Use the VM, vCPU and RAM of the test."""
        self.arch = native()
        self.vm, self.vcpu, self.ram = vm, vcpu, ram
        self.windows: list[Window] = []
        self.run: GuestRun | None = None
        self._system = system

    def __call__(
        self, text: str | TextOf[str, str], *arguments: int, seconds: float = 30
    ) -> "GuestRun":
        """Load a guest from assembly text; it runs when its exits are requested.

        `text` may map architectures to texts: ``{"arm64": …, "x86_64": …}``. `seconds` is the
        time limit for each exit. Raises `PyvmmError` if the text does not assemble. Skips the test
        if there is no text or no assembler for this architecture.
        """
        source = text if isinstance(text, str) else text.get(self.arch.NAME)
        if source is None:
            pytest.skip(f"this guest is only for {', '.join(text)}: pytest --lab runs arm64 guests")
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
        for start, end in _uncovered(0, _DEVICE_END, windows):
            windows.append(identity(start, end - start, MemoryType.DEVICE))
        return tuple(windows)


class GuestRun:
    """A run of a guest, which enters the guest when the next exit is requested.

    Attributes:
        exit: the latest exit, None before the first.
    """

    def __init__(self, guest: Guest, seconds: float) -> None:
        """Run the guest that is loaded; `seconds` is the time limit for each exit."""
        self.exit: Exit | None = None
        self._guest = guest
        self._seconds = seconds
        self._count = 0

    def expects(self, *expected: Expected) -> "GuestRun":
        """Compare the next exits with these. Raises `Unexpected` at the first difference.

        Complete a read with the value of `Expected.gives`. The guest stays at the last expected
        exit: a test can fix the cause of a fault and call this again.
        """
        __tracebackhide__ = True
        for each in expected:
            exit = self.step()
            if not each.matches(exit):
                raise Unexpected(f"exit {self._count} is {describe(exit)}, expected {each}")
            self._answer(exit, each.answer)
        return self

    def step(self) -> Exit:
        """Enter the guest and return its next exit. Raises `Unexpected` if it exceeds the limit."""
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
            raise Unexpected(f"the guest did not exit within {self._seconds:g} s")
        return exit

    def __iter__(self) -> Iterator[Exit]:
        """Yield the exits up to the first that is not MMIO or port I/O; complete reads with 0."""
        while True:
            exit = self.step()
            yield exit
            if not isinstance(exit, _EMULATED):
                return
            self._answer(exit, 0)

    def __getitem__(self, register: str) -> int:
        """Return a register of the vCPU by its name in `pyvmm.arch`: ``run["x1"]``."""
        return self._guest.arch.read(self._guest.vcpu, register)

    def _answer(self, exit: Exit, value: int) -> None:
        if isinstance(exit, _EMULATED) and not exit.write:
            size = exit.size * exit.count if isinstance(exit, Io) else 8
            self._guest.vcpu.answer(value.to_bytes(size, "little"))


# Cached: most tests of a module have the same memslots, and many the same text.
@functools.lru_cache
def _tables(windows: tuple[Window, ...]) -> PageTables:
    return native().build_page_tables(RAM_BASE, windows)


@functools.lru_cache
def _assembled(source: str, arch: str) -> bytes:
    with scratch_dir.create() as directory:
        file = directory / "guest.s"
        file.write_text(source)
        try:
            return assemble(file, arch)
        except LackingError as error:
            pytest.skip(str(error))


def _uncovered(start: int, end: int, windows: list[Window]) -> list[tuple[int, int]]:
    """Return the parts of `start` to `end` that the windows' GVAs do not cover."""
    found, at = [], start
    for window in sorted(windows, key=lambda window: window.gva):
        if window.gva >= end:
            break
        if at < window.gva:
            found.append((at, window.gva))
        at = max(at, window.gva + window.size)
    return [*found, (at, end)] if at < end else found
