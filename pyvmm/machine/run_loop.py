# SPDX-License-Identifier: GPL-2.0-only
"""The run loop: run a vCPU and pass each exit to its handler."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pyvmm.bus import Bus
from pyvmm.kvm.exits import Exit, Interrupted, Io, Mmio
from pyvmm.kvm.vcpu import Vcpu

# Handles an exit of one type. True: the guest runs again; False: the run ends with this exit.
Handler = Callable[[Any], bool]
Handlers = Mapping[type[Exit], Handler]


@dataclass(frozen=True)
class RunOutcome:
    """The end of a run.

    Attributes:
        last_exit: the exit that no handler resolved.
        exits: the number of exits by `Exit.kind`, including the last.
    """

    last_exit: Exit
    exits: dict[str, int]


class _ExitType:
    """The handler and the count of one type of exit."""

    __slots__ = ("count", "handler")

    def __init__(self, handler: Handler | None) -> None:
        self.handler = handler
        self.count = 0


def run(vcpu: Vcpu, handlers: Handlers) -> RunOutcome:
    """Run `vcpu` until an exit without a handler, or whose handler returns False.

    `Interrupted` without a handler and without `Vcpu.stop` is another signal (SIGINT, SIGCHLD):
    Python runs its signal handler, and the guest runs again unless that raised an exception.
    """
    types: dict[type[Exit], _ExitType] = {}
    for exit in vcpu.exits():
        exit_type = types.get(type(exit))
        if exit_type is None:
            exit_type = types[type(exit)] = _ExitType(handlers.get(type(exit)))
        exit_type.count += 1
        if exit_type.handler:
            if exit_type.handler(exit):
                continue
        elif isinstance(exit, Interrupted) and not vcpu.stopping:
            continue
        break
    return RunOutcome(exit, {type.kind: exit_type.count for type, exit_type in types.items()})


def mmio_handler(vcpu: Vcpu, bus: Bus) -> Handler:
    """Return a handler that emulates MMIO exits with the devices on `bus`."""

    def handle(exit: Mmio) -> bool:
        if exit.write:
            return bus.write(exit.gpa, exit.size, exit.value)
        value = bus.read(exit.gpa, exit.size)
        if value is None:
            return False
        vcpu.answer(value.to_bytes(8, "little"))
        return True

    return handle


def port_handler(vcpu: Vcpu, bus: Bus) -> Handler:
    """Return a handler that emulates x86 port I/O with the devices on `bus`, item by item."""

    def handle(exit: Io) -> bool:
        port, size = exit.port, exit.size
        if exit.write:
            if exit.count == 1:
                return bus.write(port, size, int.from_bytes(exit.data, "little"))
            items = (exit.data[i : i + size] for i in range(0, len(exit.data), size))
            return all(bus.write(port, size, int.from_bytes(item, "little")) for item in items)
        data = bytearray()
        for _ in range(exit.count):
            value = bus.read(port, size)
            if value is None:
                return False
            data += value.to_bytes(size, "little")
        vcpu.answer(bytes(data))
        return True

    return handle
