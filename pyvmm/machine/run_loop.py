# SPDX-License-Identifier: GPL-2.0-only
"""The run loop: enter the guest, take each exit to the one who answers it, until one is final."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pyvmm.bus import Bus
from pyvmm.kvm.exits import Exit, Interrupted, Io, Mmio
from pyvmm.kvm.vcpu import Vcpu

# Answers an exit of one type: True, the guest goes on; False, the run ends with this exit.
Handler = Callable[[Any], bool]
Handlers = Mapping[type[Exit], Handler]


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended: the exit that no one answered, and how many of each kind there were."""

    last_exit: Exit
    exits: dict[str, int]


class _Kind:
    """One type of exit in a run: who answers it, and how many came."""

    __slots__ = ("answer", "count")

    def __init__(self, answer: Handler | None) -> None:
        self.answer = answer
        self.count = 0


def run(vcpu: Vcpu, handlers: Handlers) -> RunOutcome:
    """Run `vcpu` until an exit comes that has no handler, or whose handler says stop.

    A signal that is not a `Vcpu.stop` (Ctrl-C, a child's end) is handled by Python between two
    entries, and the guest goes on if its handler raised nothing.
    """
    kinds: dict[type[Exit], _Kind] = {}
    for exit in vcpu.exits():
        kind = kinds.get(type(exit))
        if kind is None:
            kind = kinds[type(exit)] = _Kind(handlers.get(type(exit)))
        kind.count += 1
        if kind.answer:
            if kind.answer(exit):
                continue
        elif isinstance(exit, Interrupted) and not vcpu.stopping:
            continue
        break
    return RunOutcome(exit, {type.kind: kind.count for type, kind in kinds.items()})


def mmio_handler(vcpu: Vcpu, bus: Bus) -> Handler:
    """The handler that takes MMIO exits to the devices on `bus`."""

    def answer(exit: Mmio) -> bool:
        if exit.write:
            return bus.write(exit.gpa, exit.size, exit.value)
        value = bus.read(exit.gpa, exit.size)
        if value is None:
            return False
        vcpu.answer(value.to_bytes(8, "little"))
        return True

    return answer


def port_handler(vcpu: Vcpu, bus: Bus) -> Handler:
    """The handler that takes x86 port exits to the devices on `bus`, item by item."""

    def answer(exit: Io) -> bool:
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

    return answer
