# SPDX-License-Identifier: GPL-2.0-only
"""What has a layout or a number of its own on each architecture, as the running machine has it.

For code that is the same on both: type checkers see arm64's, so that code keeps to the members
that both have. Code of one architecture imports `kvm_arm64` or `kvm_x86_64` instead.
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
