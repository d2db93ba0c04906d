# SPDX-License-Identifier: GPL-2.0-only
"""Every ioctl but ``KVM_RUN``: decoded, judged by the rules, learned from, explained."""

import time
from dataclasses import dataclass

from pyvmm.errno_names import errno_name
from pyvmm.memory.peek import peek_prefix
from pyvmm.trace.decode import Argument, Decoded, find, name_of
from pyvmm.trace.events import Ioctl
from pyvmm.trace.known import Known
from pyvmm.trace.mappings import shown
from pyvmm.trace.objects import Object
from pyvmm.trace.tracer import Call, Thread, Verdict
from pyvmm.trace.values import Names, Values, number_of
from pyvmm.trace.vms import TracedMemfd

_MEMSLOTS = ("KVM_SET_USER_MEMORY_REGION", "KVM_SET_USER_MEMORY_REGION2")
# Those whose arguments the trace itself must know, however little is wanted of it.
_TELLING = {
    *_MEMSLOTS,
    "KVM_CREATE_VM",
    "KVM_CREATE_DEVICE",
    "KVM_CREATE_GUEST_MEMFD",
    "KVM_ENABLE_CAP",
    "VFIO_GROUP_GET_DEVICE_FD",
}
_MAKING = {"KVM_CREATE_VM", "KVM_CREATE_VCPU", "KVM_CREATE_GUEST_MEMFD", "KVM_GET_STATS_FD"}
_WORD = (1 << 32) - 1  # an fd and a request are C ints


@dataclass(slots=True)
class _Entry:
    """What was seen on the way in."""

    argument: Argument | None
    injected: str = ""


class Ioctls:
    """Makes `Ioctl` events, and keeps what they tell about VMs and descriptors."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def begin(self, thread: Thread, call: Call) -> Verdict | None:
        """An ioctl is about to be made: keep its argument, and see whether a rule is about it."""
        target = self._known.objects.at(thread.pid, call.args[0] & _WORD)
        argument = self._argument(thread, call, target)
        entry = call.note = _Entry(argument)
        names: Names = {}
        if argument and (rules := self._known.rules.about(argument.ioctl.name)):
            values = argument.before(names)
            for rule in rules:
                if rule.acts(values, names):
                    entry.injected = rule.text
                    return Verdict(rule.result, rule.delay)
        return None

    def end(self, thread: Thread, call: Call, result: int) -> Ioctl:
        """An ioctl has returned."""
        now = time.perf_counter_ns()
        fd, request = call.args[0] & _WORD, call.args[1] & _WORD
        target = self._known.objects.at(thread.pid, fd)
        kind = target.kind if target else ""
        errno = -result if result < 0 else 0
        event = Ioctl(
            time=self._known.seconds(call.started),
            pid=thread.pid,
            tid=thread.tid,
            fd=fd,
            on=target.label if target else f"fd {fd}",
            kind=kind,
            name=name_of(request, kind),
            result=0 if errno else result,
            seconds=(now - call.started) / 1e9,
            errno=errno_name(errno) if errno else None,
        )
        if isinstance(call.note, _Entry):
            argument, event.injected = call.note.argument, call.note.injected
        else:
            argument = None
        if self._known.detailed or event.name in _TELLING:
            argument = argument or self._argument(thread, call, target)
            decoded = argument.finish(bool(errno)) if argument else Decoded()
            self._learn(event, target, decoded, errno)
            if self._known.detailed or event.name in _MEMSLOTS:
                _fill(event, decoded)
        elif event.name in _MAKING and not errno:
            self._made(event, target, result)
        return event

    def _argument(self, thread: Thread, call: Call, target: Object | None) -> Argument | None:
        ioctl = find(call.args[1] & _WORD, target.kind if target else "")
        if ioctl is None:
            return None
        pid = thread.pid
        return Argument(
            ioctl,
            call.args[2],
            lambda address, size: peek_prefix(address, size, pid),
            target.device if target else "",
        )

    def _learn(self, event: Ioctl, target: Object | None, decoded: Decoded, errno: int) -> None:
        """What this ioctl tells about VMs and descriptors, and why it failed if it did."""
        name = event.name
        if name in _MEMSLOTS:
            self._memslot(event, target, decoded.argument, errno)
        elif errno or event.injected:
            return
        elif name in _MAKING:
            self._made(event, target, event.result, decoded.argument)
        elif name == "KVM_CREATE_DEVICE":
            self._made(event, target, number_of(decoded.returned, "fd"))
        elif name == "VFIO_GROUP_GET_DEVICE_FD":
            label = decoded.details.get("device", "")
            self._made(event, target, event.result, name=label if isinstance(label, str) else "")
        elif name == "KVM_ENABLE_CAP" and (vm := self._known.vm_of(target, event.pid)):
            vm.enabled.add(number_of(decoded.argument, "cap"))

    def _made(
        self,
        event: Ioctl,
        target: Object | None,
        fd: int,
        argument: Values | None = None,
        name: str = "",
    ) -> None:
        """An ioctl has returned a descriptor of something new."""
        vm = target if target and target.kind == "vm" else target and target.vm
        made = self._known.objects.made(event.pid, fd, vm, name)
        if made is None:
            return
        event.made = made.label
        traced = self._known.vm_of(made, event.pid)
        if traced and made.kind == "vm":
            traced.vm_type = number_of(argument or {}, "argument")
        elif traced and made.kind == "guest-memfd" and argument:
            size, flags = number_of(argument, "size"), number_of(argument, "flags")
            traced.memfds[fd] = TracedMemfd(size, flags, traced)

    def _memslot(self, event: Ioctl, target: Object | None, region: Values, errno: int) -> None:
        vm = self._known.vm_of(target, event.pid)
        if vm is None or not region:
            return
        slot = vm.request(region)
        if errno and not event.injected:
            event.cause, event.why = self._known.explainer.rejected(vm, slot, errno)
        elif not errno:
            vm.memslots.set(slot)
        if self._known.detailed and slot.size and not slot.guest_memfd:
            event.mapped = shown(slot.hva, slot.size, event.pid)


def _fill(event: Ioctl, decoded: Decoded) -> None:
    event.argument, event.returned = decoded.argument, decoded.returned
    event.details, event.names, event.unread = decoded.details, decoded.names, decoded.unread
