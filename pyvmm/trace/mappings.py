# SPDX-License-Identifier: GPL-2.0-only
"""What happens to the host memory under memslots: the calls that change a mapping."""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

from pyvmm.errno_names import errno_name
from pyvmm.memory.vma import vmas
from pyvmm.trace.events import Mapping
from pyvmm.trace.known import Known
from pyvmm.trace.tracer import Call, Thread
from pyvmm.trace.values import Values

MAPPING_CALLS = ("mmap", "munmap", "mprotect", "mremap", "madvise")

_MAP_FIXED, _MAP_ANONYMOUS = 0x10, mmap.MAP_ANONYMOUS
_NO_FD = (1 << 32) - 1
_MOST = 16  # areas shown of one range
_ADVICE = {value: name for name, value in vars(mmap).items() if name.startswith("MADV_")}


@dataclass
class _Change:
    hva: int
    size: int
    what: str


class Mappings:
    """Makes `Mapping` events, of the calls that touch a memslot or map a descriptor we know."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def end(self, thread: Thread, call: Call, name: str, result: int) -> Mapping | None:
        """A mapping call has returned: an event, if it is one that matters."""
        changes = self._change(thread.pid, name, call.args, result)
        if changes is None:
            return None
        slots = list(self._hit(thread.pid, changes))
        mapped = name == "mmap" and self._target(thread.pid, call.args)
        if not slots and not mapped:
            return None
        failed = -4096 < result < 0
        return Mapping(
            self._known.seconds(call.started),
            thread.pid,
            thread.tid,
            name,
            changes.hva,
            changes.size,
            changes.what,
            slots,
            shown(changes.hva, changes.size, thread.pid) if slots else [],
            errno_name(-result) if failed else None,
        )

    def _change(self, pid: int, name: str, args: tuple[int, ...], result: int) -> _Change | None:
        if name == "mmap":
            if -4096 < result < 0:
                return None
            return _Change(result, args[1], f"{_protection(args[2])} {self._source(pid, args)}")
        if name == "munmap":
            return _Change(args[0], args[1], "nothing")
        if name == "mprotect":
            return _Change(args[0], args[1], _protection(args[2]))
        if name == "mremap":
            return _Change(args[0], args[1], f"moved to {result:#x}, {args[2]:#x} bytes")
        return _Change(args[0], args[1], _ADVICE.get(args[2], f"advice {args[2]}"))

    def _source(self, pid: int, args: tuple[int, ...]) -> str:
        if args[3] & _MAP_ANONYMOUS:
            return "anonymous"
        target = self._target(pid, args)
        return f"{target or f'fd {args[4] & _NO_FD}'} from {args[5]:#x}"

    def _target(self, pid: int, args: tuple[int, ...]) -> str:
        """The label of what is mapped, where it is one of the objects that a trace is about."""
        if args[3] & _MAP_ANONYMOUS or args[4] & _NO_FD == _NO_FD:
            return ""
        target = self._known.objects.at(pid, args[4] & _NO_FD)
        return target.label if target else ""

    def _hit(self, pid: int, change: _Change) -> Iterator[Values]:
        """The parts of memslots that lie over the range."""
        for vm in self._known.vms.values():
            if vm.pid != pid:
                continue
            for slot in vm.memslots:
                if not slot.overlaps_hva(change.hva, change.size):
                    continue
                start = max(slot.hva, change.hva)
                size = min(slot.hva + slot.size, change.hva + change.size) - start
                gpa = slot.gpa + start - slot.hva
                yield {"vm": vm.label, "slot": slot.number, "gpa": gpa, "size": size}


def shown(hva: int, size: int, pid: int) -> list[Values]:
    """The areas of a range, as events have them; none where the process is gone."""
    try:
        found = vmas(hva, size, pid)
    except OSError:
        return []
    return [
        {
            "start": vma.start,
            "end": vma.end,
            "perms": vma.perms,
            "path": vma.path,
            "offset": vma.offset,
            "pfnmap": vma.pfnmap,
        }
        for vma in found[:_MOST]
    ]


def _protection(bits: int) -> str:
    return "".join(letter if bits & bit else "-" for bit, letter in ((1, "r"), (2, "w"), (4, "x")))
