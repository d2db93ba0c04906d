# SPDX-License-Identifier: GPL-2.0-only
"""The mapping of a vCPU fd, filled in by a test."""

from pyvmm.memory import PAGE_SIZE
from pyvmm.uapi.native_arch import kvm_run


def run_page(reason: int, payload: str = "", page: bytes = b"", /, **members: object) -> memoryview:
    """Return a ``struct kvm_run`` with `members` set in `payload`, followed by `page`."""
    run = kvm_run(exit_reason=reason)
    target = getattr(run, payload) if payload else run
    for name, value in members.items():
        if isinstance(value, (tuple, bytes)):
            getattr(target, name)[: len(value)] = value
        else:
            setattr(target, name, value)
    return memoryview(bytearray(bytes(run).ljust(PAGE_SIZE, b"\0") + page))
