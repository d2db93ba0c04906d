# SPDX-License-Identifier: GPL-2.0-only
import io
from collections.abc import Iterator

import pytest

from pyvmm.arch.page_tables import MemoryType, identity
from pyvmm.bus import Bus
from pyvmm.guest.payload import Payload
from pyvmm.guest.probe import Op, Probe, pack
from pyvmm.kvm import System
from pyvmm.kvm.exits import Halt, Interrupted, Io, Mmio
from pyvmm.machine import Machine
from pyvmm.machine.run_loop import mmio_handler, run

NO_DEVICE_GPA = 0x0A00_0000
PORT = 0x80


class Recorder:
    """A device that records accesses; a read returns the number of accesses."""

    def __init__(self) -> None:
        self.accesses: list[tuple[object, ...]] = []

    def read(self, offset: int, size: int) -> int:
        self.accesses.append(("read", offset, size))
        return len(self.accesses)

    def write(self, offset: int, size: int, value: int) -> None:
        self.accesses.append(("write", offset, size, value))


@pytest.fixture
def machine(kvm: System) -> Iterator[Machine]:
    with Machine(kvm, console=io.BytesIO()) as machine:
        yield machine


def enter(machine: Machine, code: str) -> None:
    """Load and enter machine code given in hex."""
    machine.load(Payload("test", machine.arch.NAME, bytes.fromhex(code)))
    machine.enter()


def hello(machine: Machine) -> None:
    machine.load(Payload.builtin("hello", machine.arch.NAME))
    machine.enter()


def test_run_ends_at_an_exit_without_a_handler(machine: Machine) -> None:
    hello(machine)
    outcome = run(machine.vcpu, {})
    assert isinstance(outcome.last_exit, (Io, Mmio))
    assert outcome.exits == {outcome.last_exit.kind: 1}


def test_handler_ends_the_run(machine: Machine) -> None:
    hello(machine)
    seen = []

    def third(exit: object) -> bool:
        seen.append(exit)
        return len(seen) < 3

    outcome = run(machine.vcpu, {Io: third, Mmio: third})
    assert outcome.last_exit is seen[2]
    assert sum(outcome.exits.values()) == 3


def test_exits_are_counted_by_kind(machine: Machine) -> None:
    hello(machine)
    outcome = machine.run()
    printed = "io" if machine.arch.CONSOLE_IS_PORT else "mmio"
    ended = "hlt" if machine.arch.CONSOLE_IS_PORT else "system_event"
    assert outcome.exits == {printed: len(f"Hello from {machine.arch.NAME}\n"), ended: 1}


def test_handler_of_interrupted(machine: Machine) -> None:
    hello(machine)
    machine.vcpu.stop()

    def resume(exit: Interrupted) -> bool:
        machine.vcpu.resume()
        return True

    outcome = run(machine.vcpu, {**machine.handlers, Interrupted: resume})
    assert outcome.exits["intr"] == 1
    assert not isinstance(outcome.last_exit, Interrupted)


def test_mmio_is_routed_to_the_device(machine: Machine) -> None:
    bus, device = Bus(), Recorder()
    bus.attach(NO_DEVICE_GPA, 0x1000, device)
    handler = mmio_handler(machine.vcpu, bus)
    assert handler(Mmio(NO_DEVICE_GPA + 4, 2, True, 7))
    assert device.accesses == [("write", 4, 2, 7)]


def test_mmio_without_a_device_ends_the_run(machine: Machine) -> None:
    handler = mmio_handler(machine.vcpu, Bus())
    assert not handler(Mmio(0, 4, True, 7))
    assert not handler(Mmio(0, 4, False, 0))


@pytest.mark.needs_arch("x86_64")
@pytest.mark.parametrize(
    ("code", "accesses", "rax"),
    [
        ("ee f4", [("write", 0, 1, 0)], 0),
        ("ef f4", [("write", 0, 4, 0)], 0),
        ("ec f4", [("read", 0, 1)], 1),
        ("66ed f4", [("read", 0, 2)], 1),
        ("ed ed f4", [("read", 0, 4)] * 2, 2),
    ],
    ids=["out al", "out eax", "in al", "in ax", "in eax, twice"],
)
def test_port_instructions(
    machine: Machine, code: str, accesses: list[tuple[object, ...]], rax: int
) -> None:
    device = Recorder()
    machine.ports.attach(PORT, 4, device)
    enter(machine, code)
    machine.arch.write(machine.vcpu, {"rax": 0, "rdx": PORT})
    assert machine.run().last_exit == Halt()
    assert device.accesses == accesses
    assert machine.arch.read(machine.vcpu, "rax") == rax


@pytest.mark.needs_arch("x86_64")
def test_string_instructions_are_emulated_item_by_item(machine: Machine) -> None:
    device = Recorder()
    machine.ports.attach(PORT, 4, device)
    text = 0x4030_0000
    machine.write(text, b"\1\0\2\0\3\0")
    enter(machine, "66f36f 48c7c103000000 f3666d f4")  # rep outsw; mov $3,%rcx; rep insw; hlt
    machine.arch.write(machine.vcpu, {"rcx": 3, "rsi": text, "rdi": text + 0x100, "rdx": PORT})
    assert machine.run().last_exit == Halt()
    assert device.accesses == [("write", 0, 2, n) for n in (1, 2, 3)] + [("read", 0, 2)] * 3
    assert machine.read(text + 0x100, 6) == b"\4\0\5\0\6\0"


@pytest.mark.needs_arch("x86_64")
@pytest.mark.parametrize(("code", "write"), [("ee", True), ("ec", False)])
def test_port_without_a_device_ends_the_run(machine: Machine, code: str, write: bool) -> None:
    enter(machine, code)
    machine.arch.write(machine.vcpu, {"rax": 5, "rdx": PORT})
    assert machine.run().last_exit == Io(PORT, 1, 1, write, b"\5" if write else b"")


def test_last_exit_can_be_answered(machine: Machine) -> None:
    machine.windows.append(identity(NO_DEVICE_GPA, 0x1000, MemoryType.DEVICE))
    probes = [Probe(NO_DEVICE_GPA, 4), Probe(NO_DEVICE_GPA + 4, 4, Op.WRITE, 1)]
    machine.load(Payload.builtin("probe", machine.arch.NAME))
    machine.enter(pack(probes))
    outcome = run(machine.vcpu, {})
    assert outcome.last_exit == Mmio(NO_DEVICE_GPA, 4, False, 0)
    machine.vcpu.answer(b"\1\0\0\0")
    assert run(machine.vcpu, {}).last_exit == Mmio(NO_DEVICE_GPA + 4, 4, True, 1)
