# SPDX-License-Identifier: GPL-2.0-only
"""What a vCPU's fd maps, filled in by a test."""

from pyvmm.memory import PAGE_SIZE
from pyvmm.uapi.native_arch import kvm_run


def shared(reason: int, payload: str = "", page: bytes = b"", /, **members: object) -> memoryview:
    """``struct kvm_run`` with a reason and a payload's members, and `page` in the next page."""
    run = kvm_run(exit_reason=reason)
    target = getattr(run, payload) if payload else run
    for name, value in members.items():
        if isinstance(value, (tuple, bytes)):
            getattr(target, name)[: len(value)] = value
        else:
            setattr(target, name, value)
    return memoryview(bytearray(bytes(run).ljust(PAGE_SIZE, b"\0") + page))
