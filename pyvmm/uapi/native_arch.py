# SPDX-License-Identifier: GPL-2.0-only
"""The definitions that differ between architectures, for the running machine.

For code that runs on both. Type checkers see arm64's definitions, so such code uses only members
that both have. Code for one architecture imports `kvm_arm64` or `kvm_x86_64`.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING or os.uname().machine == "aarch64":
    from pyvmm.uapi import kvm_arm64 as module
    from pyvmm.uapi.kvm_arm64 import (
        KVM_COALESCED_MMIO_PAGE_OFFSET,
        KVM_GET_VCPU_EVENTS,
        KVM_SET_GUEST_DEBUG,
        KVM_SET_VCPU_EVENTS,
        kvm_guest_debug,
        kvm_run,
        kvm_vcpu_events,
    )
else:
    from pyvmm.uapi import kvm_x86_64 as module
    from pyvmm.uapi.kvm_x86_64 import (
        KVM_COALESCED_MMIO_PAGE_OFFSET,
        KVM_GET_VCPU_EVENTS,
        KVM_SET_GUEST_DEBUG,
        KVM_SET_VCPU_EVENTS,
        kvm_guest_debug,
        kvm_run,
        kvm_vcpu_events,
    )

architecture = module.__name__.removeprefix("pyvmm.uapi.kvm_")  # "arm64" or "x86_64"

__all__ = [
    "KVM_COALESCED_MMIO_PAGE_OFFSET",
    "KVM_GET_VCPU_EVENTS",
    "KVM_SET_GUEST_DEBUG",
    "KVM_SET_VCPU_EVENTS",
    "architecture",
    "kvm_guest_debug",
    "kvm_run",
    "kvm_vcpu_events",
    "module",
]
