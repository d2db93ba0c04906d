# SPDX-License-Identifier: GPL-2.0-only
"""``struct kvm_run`` of a traced vCPU: the very page that its VMM and KVM talk through.

pidfd_getfd(2) gives us the vCPU's descriptor for a moment, and mmap(2) the page: KVM refuses
ioctls from another process than the VM's, and maps it for any. A look at the exit reason is then
a look at memory, where process_vm_readv(2) would be a system call for each of a hundred thousand
exits. The mapping holds the VM, so it goes when the tracee's last descriptor of the vCPU does.
"""

import errno as errnos
import mmap
import os
import struct
from dataclasses import fields
from typing import Any

from pyvmm import libc
from pyvmm.errno_names import EHWPOISON
from pyvmm.kvm import exits
from pyvmm.memory import PAGE_SIZE
from pyvmm.trace.ptrace import NUMBERS
from pyvmm.trace.symbols import symbol_of
from pyvmm.trace.values import Names, Value, Values
from pyvmm.uapi.kvm import KVM_EXIT_IO, KVM_EXIT_IO_IN, KVM_EXIT_MEMORY_FAULT, KVM_EXIT_MMIO
from pyvmm.uapi.names import names
from pyvmm.uapi.native_arch import kvm_run

_SIZE = 2 * PAGE_SIZE  # struct kvm_run, and the data of port I/O
_REASON = struct.Struct("=8xI").unpack_from
_KINDS = {n: name.removeprefix("KVM_EXIT_").lower() for n, name in names("KVM_EXIT_").items()}


class RunPage:
    """The shared page of one vCPU."""

    def __init__(self, pid: int, fd: int) -> None:
        """Map it. Raises `OSError` where the process is gone, or the kernel older than 5.6."""
        pidfd = os.pidfd_open(pid)
        try:
            number = libc.syscall(NUMBERS["pidfd_getfd"], pidfd, fd, 0)
        finally:
            os.close(pidfd)
        try:
            self._mapping = mmap.mmap(number, _SIZE)
        finally:
            os.close(number)
        self.shared = memoryview(self._mapping)

    def close(self) -> None:
        """Unmap it: the VM is the tracee's alone again."""
        self.shared.release()
        self._mapping.close()

    def kind(self, errno: int) -> str:
        """The exit by name, "mmio"; a failed ``KVM_RUN`` by what it can be trusted to mean."""
        [reason] = _REASON(self.shared)
        if errno:
            return _failed(reason, errno)
        return _KINDS.get(reason, f"exit_{reason}")

    def exit(self, errno: int) -> exits.Exit:
        """The exit that it holds, after a ``KVM_RUN`` that failed with `errno`, or did not (0)."""
        return exits.decode_failure(self.shared, errno) if errno else exits.decode(self.shared)

    def before(self) -> Values:
        """What the VMM has put there for the kernel: the answer to a read, a wish to stop."""
        run = kvm_run.from_buffer(self._mapping)
        values: Values = {}
        if run.immediate_exit:
            values["immediate_exit"] = run.immediate_exit
        if run.request_interrupt_window:
            values["request_interrupt_window"] = run.request_interrupt_window
        if run.exit_reason == KVM_EXIT_MMIO and not run.mmio.is_write:
            values["answer"] = bytes(run.mmio.data[: min(run.mmio.len, 8)]).hex()
        elif run.exit_reason == KVM_EXIT_IO and run.io.direction == KVM_EXIT_IO_IN:
            start, size = run.io.data_offset, run.io.size * run.io.count
            values["answer"] = bytes(self.shared[start : start + size]).hex()
        del run
        return values

    def inject_memory_fault(self, gpa: int, size: int, flags: int) -> None:
        """Fill in what the kernel would for a ``KVM_EXIT_MEMORY_FAULT``."""
        run = kvm_run.from_buffer(self._mapping)
        run.exit_reason = KVM_EXIT_MEMORY_FAULT
        run.memory_fault.gpa = gpa
        run.memory_fault.size = size
        run.memory_fault.flags = flags
        del run


def members_of(ending: exits.Exit, names: Names) -> Values:
    """An exit's payload, member by member; puts the names of its numbers into `names`."""
    members: Any = ending
    values = {f.name: _value(getattr(ending, f.name)) for f in fields(members)}
    values.pop("errno", None)  # it is the call's
    for name, value in values.items():
        if isinstance(value, int) and (symbol := symbol_of(f"{ending.kind}.{name}", value)):
            names[name] = symbol
    return values


def _failed(reason: int, errno: int) -> str:
    if errno in (errnos.EINTR, errnos.EAGAIN):
        return "intr"
    if errno in (errnos.EFAULT, EHWPOISON) and reason == KVM_EXIT_MEMORY_FAULT:
        return "memory_fault"
    return "run_failure"


def _value(value: object) -> Value:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    if isinstance(value, dict):
        return {name: _value(item) for name, item in value.items()}
    assert isinstance(value, int)
    return value
