# SPDX-License-Identifier: GPL-2.0-only
"""``KVM_RUN``, on its way in and out: the one ioctl that comes a hundred thousand times."""

import errno as errnos
import time
from dataclasses import dataclass

from pyvmm.errno_names import errno_name
from pyvmm.kvm.exits import Exit, MemoryFault, RunFailure
from pyvmm.trace.events import Run
from pyvmm.trace.known import Known
from pyvmm.trace.objects import Object
from pyvmm.trace.runs import RunPage, members_of
from pyvmm.trace.tracer import Call, Thread, Verdict
from pyvmm.trace.values import Values
from pyvmm.trace.vms import TracedVm


@dataclass(slots=True)
class _Entry:
    """What was seen on the way in."""

    before: Values
    injected: str = ""


class Running:
    """Makes `Run` events."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._at = known.objects.at

    def begin(self, thread: Thread, call: Call) -> Verdict | None:
        """A vCPU is about to run: what its VMM has prepared, and whether a rule is about it."""
        vcpu = self._at(thread.pid, call.args[0])
        page = vcpu and _page(vcpu, thread.pid, call.args[0])
        entry = call.note = _Entry(page.before() if page and self._known.detailed else {})
        for rule in self._known.rules.about("KVM_RUN"):
            if rule.vcpu is not None and not (vcpu and vcpu.index == rule.vcpu):
                continue
            if (rule.fault and not page) or not rule.acts({}, {}):
                continue
            if rule.fault and page:
                page.inject_memory_fault(*rule.fault)
            entry.injected = rule.text
            return Verdict(rule.result, rule.delay)
        return None

    def count(self, thread: Thread, call: Call, result: int) -> tuple[str, str | None, float]:
        """What `Summary.ran` counts, where nothing else is wanted of a ``KVM_RUN``."""
        seconds = (time.perf_counter_ns() - call.started) / 1e9
        vcpu = self._at(thread.pid, call.args[0])
        page = vcpu and (vcpu.page or _page(vcpu, thread.pid, call.args[0]))
        if result >= 0:
            return page.kind(0) if page else "unknown", None, seconds
        return page.kind(-result) if page else "unknown", errno_name(-result), seconds

    def end(self, thread: Thread, call: Call, result: int) -> Run:
        """A vCPU is back in user space."""
        now, pid, fd = time.perf_counter_ns(), thread.pid, call.args[0]
        vcpu = self._at(pid, fd)
        page = vcpu and (vcpu.page or _page(vcpu, pid, fd))
        errno = -result if result < 0 else 0
        event = Run(
            (call.started - self._known.began) / 1e9,
            pid,
            thread.tid,
            fd,
            vcpu.label if vcpu else f"fd {fd}",
            page.kind(errno) if page else "unknown",
            (now - call.started) / 1e9,
            errno_name(errno) if errno else None,
        )
        if isinstance(call.note, _Entry):
            event.before, event.injected = call.note.before, call.note.injected
        if page and self._known.detailed:
            ending = page.exit(errno)
            event.payload = members_of(ending, event.names)
            if errno and not event.injected and (vm := self._known.vm_of(vcpu, pid)):
                event.cause, event.why = self._why(vm, ending)
        return event

    def _why(self, vm: TracedVm, ending: Exit) -> tuple[str, str]:
        match ending:
            case MemoryFault():
                return self._known.explainer.fault(vm, ending)
            case RunFailure(errno=errnos.EFAULT):
                return self._known.explainer.bare_fault(vm)
        return "", ""


def _page(vcpu: Object, pid: int, fd: int) -> RunPage | None:
    """The vCPU's shared page, mapped when it is first needed."""
    if vcpu.page is None:
        try:
            vcpu.page = RunPage(pid, fd)
        except (OSError, ValueError):
            return None
    return vcpu.page
