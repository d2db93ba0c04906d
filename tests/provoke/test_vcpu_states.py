# SPDX-License-Identifier: GPL-2.0-only
"""Each failure of ``KVM_RUN`` without a fault, on a real kernel: the errno and the cause."""

import platform

import pytest

from pyvmm.kvm import System
from pyvmm.provoke.runner import provoke
from pyvmm.provoke.testbed import Provocation
from pyvmm.provoke.vcpu_states import PROVOCATIONS

ARM64 = platform.machine() == "aarch64"

KERNEL = {
    "vcpu-closed": "EBADF",
    "vcpu-is-vm": "EINVAL" if ARM64 else "ENOTTY",
    "vcpu-in-child": "EIO",
    "vm-dead": "EIO",
    "slot-in-dead-vm": "EIO at registration",
    "vcpu-uninitialised": "ENOEXEC",
    "vcpu-unfinalised": "EPERM",
    "vgic-unplaced": "ENXIO",
    "vgic-without-distributor": "ENXIO",
    "vgic-frames-overlap": "EINVAL",
    "vgic-uninitialised": "EBUSY",
    "pmu-uninitialised": "EINVAL",
    "sync-regs-unknown": "EINVAL",
    "immediate-exit": "EINTR",
}


@pytest.mark.parametrize("provocation", PROVOCATIONS, ids=lambda each: each.name)
def test_failure_is_named(kvm: System, provocation: Provocation) -> None:
    [result] = provoke([provocation])
    if result.skipped:
        pytest.skip(result.skipped)
    assert result.kernel == KERNEL[provocation.name]
    assert (result.cause, result.as_expected) == (provocation.cause, True)
    assert result.mark == ("inferred" if provocation.name == "pmu-uninitialised" else "known")
    assert (result.record, result.guest) == (None, "did not run")
