# SPDX-License-Identifier: GPL-2.0-only
import io
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyvmm.arch.page_tables import MemoryType, identity
from pyvmm.errors import UsageError
from pyvmm.guest import repeat
from pyvmm.guest.payload import Payload
from pyvmm.guest.probe import Probe, pack
from pyvmm.kvm import System
from pyvmm.kvm.exits import Mmio, Unknown
from pyvmm.machine import ARGUMENT_BLOCK, ENTRY, MINIMUM_RAM, RAM_BASE, Machine
from pyvmm.machine.run_loop import RunOutcome
from pyvmm.memory.vma import vmas
from tests.process import open_fds

NO_DEVICE_GPA = 0x0A00_0000


@pytest.fixture
def console() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture
def machine(kvm: System, console: io.BytesIO) -> Iterator[Machine]:
    with Machine(kvm, console=console) as machine:
        yield machine


def test_guest_prints(machine: Machine, console: io.BytesIO) -> None:
    machine.load(Payload.builtin("hello", machine.arch.NAME))
    machine.enter()
    machine.run()
    assert console.getvalue() == f"Hello from {machine.arch.NAME}\n".encode()


def test_enter_again(machine: Machine, console: io.BytesIO) -> None:
    machine.load(Payload.builtin("hello", machine.arch.NAME))
    for _ in range(3):
        machine.enter()
        machine.run()
    assert console.getvalue() == f"Hello from {machine.arch.NAME}\n".encode() * 3


def test_enter_completes_a_pending_access(machine: Machine, console: io.BytesIO) -> None:
    # KVM would complete it at the next KVM_RUN, and skip an instruction of the new payload.
    machine.windows.append(identity(NO_DEVICE_GPA, 0x1000, MemoryType.DEVICE))
    machine.load(Payload.builtin("probe", machine.arch.NAME))
    machine.enter(pack([Probe(NO_DEVICE_GPA)]))
    assert machine.run().last_exit == Mmio(NO_DEVICE_GPA, 4, False, 0)
    machine.load(Payload.builtin("hello", machine.arch.NAME))
    machine.enter()
    machine.run()
    assert console.getvalue() == f"Hello from {machine.arch.NAME}\n".encode()


def test_console_may_be_stdout(kvm: System, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with open(1, "wb", closefd=False) as stdout, Machine(kvm, console=stdout) as machine:
        machine.load(Payload.builtin("hello", machine.arch.NAME))
        machine.enter()
        machine.run()
    assert capfdbinary.readouterr().out.startswith(b"Hello from ")


def test_argument_block_gpa(machine: Machine) -> None:
    machine.load(Payload.builtin("loads", machine.arch.NAME))
    machine.write(RAM_BASE + 0x30_0000, b"\x78\x56\x34\x12")
    machine.enter(repeat.pack(1, RAM_BASE + 0x30_0000))
    machine.run()
    assert repeat.last_word(machine.read(ARGUMENT_BLOCK, 24)) == 0x12345678


@pytest.mark.parametrize(
    ("gpa", "size"),
    [(RAM_BASE - 1, 2), (RAM_BASE + MINIMUM_RAM - 1, 2), (0, 1), (ENTRY, MINIMUM_RAM)],
)
def test_write_outside_ram(machine: Machine, gpa: int, size: int) -> None:
    with pytest.raises(UsageError, match="do not fit into 0x400000 bytes of RAM"):
        machine.write(gpa, bytes(size))


def test_close_frees_fds_and_memory(kvm: System) -> None:
    before = open_fds()
    machine = Machine(kvm)
    hva, size = machine.ram.hva, machine.ram.size
    machine.close()
    machine.close()
    assert open_fds() == before
    assert vmas(hva, size) == []


def test_failed_construction_leaves_no_fds(kvm: System) -> None:
    before = open_fds()
    with pytest.raises(ValueError, match="whole number of pages"):
        Machine(kvm, ram_size=MINIMUM_RAM + 1)
    assert open_fds() == before


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(code=st.binary(min_size=1, max_size=64))
def test_random_code_ends_with_a_typed_exit(machine: Machine, code: bytes) -> None:
    machine.load(Payload("junk", machine.arch.NAME, code))
    machine.enter()
    assert type(run_for(machine, 0.05).last_exit) is not Unknown


def run_for(machine: Machine, seconds: float) -> RunOutcome:
    """Run the guest until it stops or `seconds` pass."""
    timer = threading.Timer(seconds, machine.vcpu.stop)
    timer.start()
    outcome = machine.run()
    timer.cancel()
    timer.join()
    machine.vcpu.resume()
    return outcome


@pytest.mark.parametrize("pc", [0, 0xFFFF_FFFF_FFFF_F000, RAM_BASE + MINIMUM_RAM, 1 << 46])
def test_pc_outside_the_payload(machine: Machine, pc: int) -> None:
    machine.load(Payload.builtin("spin", machine.arch.NAME))
    machine.enter()
    machine.arch.enter(machine.vcpu, pc, (), machine._translation)
    assert type(run_for(machine, 0.2).last_exit) is not Unknown
