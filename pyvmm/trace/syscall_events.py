# SPDX-License-Identifier: GPL-2.0-only
"""Turn the tracees' system calls into events: ``KVM_RUN``, other ioctls, and mapping calls.

`TraceState` is the state that they share. Each class handles one group of calls, at entry (to
read arguments and apply injection rules) and at exit (to make the event).
"""

import errno as errnos
import mmap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from pyvmm.errno_names import errno_name
from pyvmm.kvm.exits import Exit, MemoryFault, RunFailure
from pyvmm.memory.peek import peek_prefix
from pyvmm.memory.vma import vmas
from pyvmm.trace.events import Ioctl, Mapping, Run
from pyvmm.trace.fd_table import FdTable, KernelObject
from pyvmm.trace.inject import Rules
from pyvmm.trace.ioctl_decode import Decoded, IoctlArgument, find_ioctl, ioctl_name
from pyvmm.trace.run_page import RunPage, exit_values
from pyvmm.trace.traced_vm import Explainer, TracedMemfd, TracedVm
from pyvmm.trace.tracer import Injection, Syscall, Thread
from pyvmm.trace.values import Values, int_member

MAPPING_SYSCALLS = ("mmap", "munmap", "mprotect", "mremap", "madvise")
C_UINT_MASK = (1 << 32) - 1  # an fd and an ioctl request are C ints

_SET_MEMSLOT = ("KVM_SET_USER_MEMORY_REGION", "KVM_SET_USER_MEMORY_REGION2")
# Ioctls that are decoded even when only counts are requested: they change `TraceState`.
_STATEFUL = {
    *_SET_MEMSLOT,
    "KVM_CREATE_VM",
    "KVM_CREATE_DEVICE",
    "KVM_CREATE_GUEST_MEMFD",
    "KVM_ENABLE_CAP",
    "VFIO_GROUP_GET_DEVICE_FD",
}
# Ioctls that return a new descriptor.
_CREATE = {"KVM_CREATE_VM", "KVM_CREATE_VCPU", "KVM_CREATE_GUEST_MEMFD", "KVM_GET_STATS_FD"}

_MAX_ERRNO = 4095  # linux/err.h; larger negative results of mmap(2) are addresses
_MAX_VMAS = 16  # VMAs in one event
_ADVICE = {value: name for name, value in vars(mmap).items() if name.startswith("MADV_")}


@dataclass
class TraceState:
    """The state of a running trace.

    Attributes:
        rules: the injection rules.
        detailed: whether to decode arguments and exits; False only counts, which is cheaper.
        vms: the state of each VM, by its kernel object, as long as `fds` keeps the object.
        start_ns: the start of the trace, in nanoseconds of `time.perf_counter_ns`.
    """

    rules: Rules
    detailed: bool
    fds: FdTable = field(default_factory=FdTable)
    vms: WeakKeyDictionary[KernelObject, TracedVm] = field(default_factory=WeakKeyDictionary)
    explainer: Explainer = field(default_factory=Explainer)
    start_ns: int = field(default_factory=time.perf_counter_ns)

    def vm_of(self, target: KernelObject | None, pid: int) -> TracedVm | None:
        """Return the VM that an object is or belongs to, or None.

        Created now if the tracer attached after ``KVM_CREATE_VM``.
        """
        vm = target if target and target.kind == "vm" else target and target.vm
        if vm is None:
            return None
        if vm not in self.vms:
            self.vms[vm] = TracedVm(vm.label, pid)
        return self.vms[vm]

    def seconds(self, clock: int) -> float:
        """Return the seconds from the start of the trace to `clock` (nanoseconds)."""
        return (clock - self.start_ns) / 1e9

    def close(self) -> None:
        """Unmap the tracees' pages and close the explainer's VM."""
        self.fds.unmap_all()
        self.explainer.close()


@dataclass(slots=True)
class _RunEntry:
    """Data that `RunEvents` keeps from entry to exit."""

    before: Values
    injected: str = ""


class RunEvents:
    """The source of `Run` events; ``KVM_RUN`` is the most frequent system call by far."""

    def __init__(self, state: TraceState) -> None:
        """Use `state`, which all event sources of a trace share."""
        self._state = state
        self._get_object = state.fds.get

    def enter(self, thread: Thread, syscall: Syscall) -> Injection | None:
        """Read what the VMM wrote into ``struct kvm_run``, and apply the ``run:`` rules."""
        vcpu = self._get_object(thread.pid, syscall.args[0])
        page = vcpu and _run_page(vcpu, thread.pid, syscall.args[0])
        entry = _RunEntry(page.vmm_input() if page and self._state.detailed else {})
        syscall.handler_data = entry
        for rule in self._state.rules.for_ioctl("KVM_RUN"):
            if rule.vcpu is not None and not (vcpu and vcpu.index == rule.vcpu):
                continue
            if (rule.fault and not page) or not rule.applies({}):
                continue
            if rule.fault and page:
                page.inject_memory_fault(*rule.fault)
            entry.injected = rule.text
            return Injection(rule.result, rule.delay)
        return None

    def count(self, thread: Thread, syscall: Syscall, result: int) -> tuple[str, str | None, float]:
        """Return the arguments of `Summary.count_run`, when only counts are requested."""
        seconds = (time.perf_counter_ns() - syscall.started) / 1e9
        vcpu = self._get_object(thread.pid, syscall.args[0])
        page = vcpu and (vcpu.page or _run_page(vcpu, thread.pid, syscall.args[0]))
        if result >= 0:
            return page.kind(0) if page else "unknown", None, seconds
        return page.kind(-result) if page else "unknown", errno_name(-result), seconds

    def exit(self, thread: Thread, syscall: Syscall, result: int) -> Run:
        """Return the event of a ``KVM_RUN`` that has returned."""
        now, pid, fd = time.perf_counter_ns(), thread.pid, _fd(syscall.args[0])
        vcpu = self._get_object(pid, fd)
        page = vcpu and (vcpu.page or _run_page(vcpu, pid, fd))
        errno = -result if result < 0 else 0
        event = Run(
            (syscall.started - self._state.start_ns) / 1e9,
            pid,
            thread.tid,
            fd,
            vcpu.label if vcpu else f"fd {fd}",
            page.kind(errno) if page else "unknown",
            (now - syscall.started) / 1e9,
            errno_name(errno) if errno else None,
        )
        if isinstance(syscall.handler_data, _RunEntry):
            event.before = syscall.handler_data.before
            event.injected = syscall.handler_data.injected
        if page and self._state.detailed:
            vcpu_exit = page.exit(errno)
            event.payload = exit_values(vcpu_exit, event.names)
            if errno and not event.injected and (vm := self._state.vm_of(vcpu, pid)):
                event.cause, event.why = self._why(vm, vcpu_exit)
        return event

    def _why(self, vm: TracedVm, vcpu_exit: Exit) -> tuple[str, str]:
        match vcpu_exit:
            case MemoryFault():
                return self._state.explainer.fault(vm, vcpu_exit)
            case RunFailure(errno=errnos.EFAULT):
                return self._state.explainer.bare_fault(vm)
            case RunFailure(errno=errnos.ENOMEM):
                return self._state.explainer.no_memory(vm)
        return "", ""


def _run_page(vcpu: KernelObject, pid: int, fd: int) -> RunPage | None:
    """Return the vCPU's ``struct kvm_run``, mapped on first use, or None if that fails."""
    if vcpu.page is None:
        try:
            vcpu.page = RunPage(pid, fd)
        except (OSError, ValueError):
            return None
    return vcpu.page


@dataclass(slots=True)
class _IoctlEntry:
    """Data that `IoctlEvents` keeps from entry to exit."""

    argument: IoctlArgument | None
    injected: str = ""


class IoctlEvents:
    """The source of `Ioctl` events, which also updates the `TraceState`."""

    def __init__(self, state: TraceState) -> None:
        """Use and update `state`."""
        self._state = state

    def enter(self, thread: Thread, syscall: Syscall) -> Injection | None:
        """Read the argument, and apply the ``cap:`` and ``ioctl:`` rules."""
        target = self._state.fds.get(thread.pid, _fd(syscall.args[0]))
        argument = self._argument(thread, syscall, target)
        entry = syscall.handler_data = _IoctlEntry(argument)
        if argument and (rules := self._state.rules.for_ioctl(argument.ioctl.name)):
            values = argument.before({})
            for rule in rules:
                if rule.applies(values):
                    entry.injected = rule.text
                    return Injection(rule.result, rule.delay)
        return None

    def exit(self, thread: Thread, syscall: Syscall, result: int) -> Ioctl:
        """Return the event of an ioctl that has returned."""
        now = time.perf_counter_ns()
        fd, request = _fd(syscall.args[0]), syscall.args[1] & C_UINT_MASK
        target = self._state.fds.get(thread.pid, fd)
        kind = target.kind if target else ""
        errno = -result if result < 0 else 0
        event = Ioctl(
            time=self._state.seconds(syscall.started),
            pid=thread.pid,
            tid=thread.tid,
            fd=fd,
            on=target.label if target else f"fd {fd}",
            kind=kind,
            name=ioctl_name(request, kind),
            result=0 if errno else result,
            seconds=(now - syscall.started) / 1e9,
            errno=errno_name(errno) if errno else None,
        )
        if isinstance(syscall.handler_data, _IoctlEntry):
            argument, event.injected = syscall.handler_data.argument, syscall.handler_data.injected
        else:
            argument = None
        if self._state.detailed or event.name in _STATEFUL:
            argument = argument or self._argument(thread, syscall, target)
            decoded = argument.decode(bool(errno)) if argument else Decoded()
            self._update_state(event, target, decoded, errno)
            if self._state.detailed or event.name in _SET_MEMSLOT:
                event.argument, event.returned = decoded.argument, decoded.returned
                event.details, event.names = decoded.details, decoded.names
                event.unread = decoded.unread
        elif event.name in _CREATE and not errno:
            self._add_object(event, target, result)
        return event

    def _argument(
        self, thread: Thread, syscall: Syscall, target: KernelObject | None
    ) -> IoctlArgument | None:
        ioctl = find_ioctl(syscall.args[1] & C_UINT_MASK, target.kind if target else "")
        if ioctl is None:
            return None
        pid = thread.pid
        return IoctlArgument(
            ioctl,
            syscall.args[2],
            lambda address, size: peek_prefix(address, size, pid),
            target.device if target else "",
        )

    def _update_state(
        self, event: Ioctl, target: KernelObject | None, decoded: Decoded, errno: int
    ) -> None:
        name = event.name
        if name in _SET_MEMSLOT:
            self._set_memslot(event, target, decoded.argument, errno)
        elif errno or event.injected:
            return
        elif name in _CREATE:
            self._add_object(event, target, event.result, decoded.argument)
        elif name == "KVM_CREATE_DEVICE":
            self._add_object(event, target, int_member(decoded.returned, "fd"))
        elif name == "VFIO_GROUP_GET_DEVICE_FD":
            label = decoded.details.get("device", "")
            self._add_object(
                event, target, event.result, name=label if isinstance(label, str) else ""
            )
        elif name == "KVM_ENABLE_CAP" and (vm := self._state.vm_of(target, event.pid)):
            vm.enabled.add(int_member(decoded.argument, "cap"))
        elif name == "KVM_SET_MEMORY_ATTRIBUTES" and (vm := self._state.vm_of(target, event.pid)):
            gpa, size, attributes = (
                int_member(decoded.argument, name) for name in ("address", "size", "attributes")
            )
            vm.private.set(gpa, size, attributes)

    def _add_object(
        self,
        event: Ioctl,
        target: KernelObject | None,
        fd: int,
        argument: Values | None = None,
        name: str = "",
    ) -> None:
        """Add the object of the descriptor that an ioctl has returned."""
        vm = target if target and target.kind == "vm" else target and target.vm
        new = self._state.fds.add(event.pid, fd, vm, name)
        if new is None:
            return
        event.made = new.label
        traced = self._state.vm_of(new, event.pid)
        if traced and new.kind == "vm":
            traced.vm_type = int_member(argument or {}, "argument")
        elif traced and new.kind == "guest-memfd" and argument:
            size, flags = int_member(argument, "size"), int_member(argument, "flags")
            traced.memfds[fd] = TracedMemfd(size, flags, traced)

    def _set_memslot(
        self, event: Ioctl, target: KernelObject | None, region: Values, errno: int
    ) -> None:
        vm = self._state.vm_of(target, event.pid)
        if vm is None or not region:
            return
        slot = vm.requested_slot(region)
        if errno and not event.injected:
            event.cause, event.why = self._state.explainer.rejected(vm, region, errno)
        elif not errno:
            vm.set_memslot(slot)
        if self._state.detailed and slot.size and not slot.guest_memfd:
            event.mapped = _vma_values(slot.hva, slot.size, event.pid)


@dataclass
class _MappingCall:
    """A mapping call: `size` bytes at `hva`, and a description of the request."""

    hva: int
    size: int
    description: str


class MappingEvents:
    """The source of `Mapping` events: calls that change memory under memslots, and map vCPUs."""

    def __init__(self, state: TraceState) -> None:
        """Use the memslots in `state`."""
        self._state = state

    def exit(self, thread: Thread, syscall: Syscall, name: str, result: int) -> Mapping | None:
        """Return the event of a mapping call that has returned, or None if it is not relevant."""
        failed = -_MAX_ERRNO <= result < 0
        if failed and name == "mmap":
            return None
        call = self._call(thread.pid, name, syscall.args, result)
        slots = list(self._memslots_over(thread.pid, call))
        if not slots and not (name == "mmap" and self._mapped_label(thread.pid, syscall.args)):
            return None
        return Mapping(
            self._state.seconds(syscall.started),
            thread.pid,
            thread.tid,
            name,
            call.hva,
            call.size,
            call.description,
            slots,
            _vma_values(call.hva, call.size, thread.pid) if slots else [],
            errno_name(-result) if failed else None,
        )

    def _call(self, pid: int, name: str, args: tuple[int, ...], result: int) -> _MappingCall:
        if name == "mmap":
            source = f"{_protection(args[2])} {self._source(pid, args)}"
            return _MappingCall(result, args[1], source)
        if name == "munmap":
            description = "nothing"
        elif name == "mprotect":
            description = _protection(args[2])
        elif name == "mremap":
            description = f"moved to {result:#x}, {args[2]:#x} bytes"
        else:
            description = _ADVICE.get(args[2], f"advice {args[2]}")
        return _MappingCall(args[0], args[1], description)

    def _source(self, pid: int, args: tuple[int, ...]) -> str:
        if args[3] & mmap.MAP_ANONYMOUS:
            return "anonymous"
        label = self._mapped_label(pid, args)
        return f"{label or f'fd {_fd(args[4])}'} from {args[5]:#x}"

    def _mapped_label(self, pid: int, args: tuple[int, ...]) -> str:
        """Return the label of the kernel object that mmap(2) maps, or ""."""
        if args[3] & mmap.MAP_ANONYMOUS:
            return ""
        target = self._state.fds.get(pid, _fd(args[4]))
        return target.label if target else ""

    def _memslots_over(self, pid: int, call: _MappingCall) -> Iterator[Values]:
        """Yield the parts of memslots whose HVA range overlaps the call's."""
        for target, vm in self._state.vms.items():
            if vm.pid != pid:
                continue
            for slot in vm.memslots:
                if not slot.overlaps_hva(call.hva, call.size):
                    continue
                if target not in self._state.fds.open_vms:
                    break
                start = max(slot.hva, call.hva)
                size = min(slot.hva + slot.size, call.hva + call.size) - start
                gpa = slot.gpa + start - slot.hva
                yield {"vm": vm.label, "slot": slot.number, "gpa": gpa, "size": size}


def _fd(argument: int) -> int:
    """Return a system call's argument as a C int."""
    fd = argument & C_UINT_MASK
    return fd - (1 << 32) if fd >> 31 else fd


def _vma_values(hva: int, size: int, pid: int) -> list[Values]:
    """Return the VMAs in an HVA range as JSON values; empty if the process has ended."""
    try:
        areas = vmas(hva, size, pid)
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
        for vma in areas[:_MAX_VMAS]
    ]


def _protection(bits: int) -> str:
    return "".join(letter if bits & bit else "-" for bit, letter in ((1, "r"), (2, "w"), (4, "x")))
