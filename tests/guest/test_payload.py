# SPDX-License-Identifier: GPL-2.0-only
"""Payloads by name and by file, and each built-in payload on KVM."""

import io
import resource
import threading
from pathlib import Path

import pytest

from pyvmm.arch.page_tables import MemoryType, identity
from pyvmm.errors import UsageError
from pyvmm.guest import payload, repeat
from pyvmm.guest.payload import Payload
from pyvmm.kvm.exits import Halt, Interrupted, SystemEvent
from pyvmm.machine import ARGUMENT_BLOCK, ENTRY, Machine
from tests.process import soft_limit

NO_RAM = 0x6000_0000
POST_PORT = 0x80


@pytest.mark.parametrize("arch", ["arm64", "x86_64"])
def test_both_architectures_have_the_common_payloads(arch: str) -> None:
    assert {"exits", "hello", "loads", "probe", "spin"} <= set(payload.names(arch))


def test_an_unknown_name_lists_the_payloads() -> None:
    with pytest.raises(
        UsageError, match="no payload 'nope' for arm64; choose one of: exits, hello"
    ):
        Payload.builtin("nope", "arm64")


def test_a_flat_binary_is_loaded_unchanged(tmp_path: Path) -> None:
    (tmp_path / "guest.bin").write_bytes(b"\xf4")
    assert Payload.of_file(tmp_path / "guest.bin", "x86_64").code == b"\xf4"


@pytest.mark.parametrize(("name", "message"), [("empty", "is empty"), ("missing", "No such file")])
def test_an_empty_or_missing_file_is_a_usage_error(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(UsageError, match=message):
        Payload.of_file(tmp_path / name, "arm64")


@pytest.mark.parametrize("name", ["guest.bin", "guest.s"])
def test_a_file_without_an_end_is_a_usage_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/dev/zero")
    with soft_limit(resource.RLIMIT_AS, 4 << 30), pytest.raises(UsageError, match="is larger than"):
        Payload.of_file(tmp_path / name, "x86_64")


def start(machine: Machine, name: str, block: bytes = b"") -> None:
    machine.load(Payload.builtin(name, machine.arch.NAME))
    machine.enter(block)


def test_hello_prints_a_line(machine: Machine, console: io.BytesIO) -> None:
    start(machine, "hello")
    assert isinstance(machine.run().last_exit, Halt | SystemEvent)
    assert console.getvalue() == f"Hello from {machine.arch.NAME}\n".encode()


def test_spin_runs_until_the_host_stops_it(machine: Machine) -> None:
    start(machine, "spin")
    threading.Timer(0.05, machine.vcpu.stop).start()
    outcome = machine.run()
    assert isinstance(outcome.last_exit, Interrupted)


class Sink:
    """A device that counts writes."""

    def __init__(self) -> None:
        self.writes = 0

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        self.writes += 1


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_exits_makes_the_requested_number_of_exits(machine: Machine, count: int) -> None:
    sink = Sink()
    machine.ports.attach(POST_PORT, 1, sink)
    machine.mmio.attach(NO_RAM, 0x1000, sink)
    machine.windows.append(identity(NO_RAM, 0x1000, MemoryType.DEVICE))
    where = POST_PORT if machine.arch.CONSOLE_IS_PORT else NO_RAM
    start(machine, "exits", repeat.pack(count, where))
    outcome = machine.run()
    assert sink.writes == count
    assert sum(outcome.exits.values()) == count + 1  # the last one ends the payload


def test_loads_read_memory_without_an_exit(machine: Machine) -> None:
    start(machine, "loads", repeat.pack(100_000, ENTRY))
    outcome = machine.run()
    assert sum(outcome.exits.values()) == 1  # the end of the payload
    word = machine.read(ENTRY, 4)
    assert repeat.last_word(machine.read(ARGUMENT_BLOCK, 24)) == int.from_bytes(word, "little")
