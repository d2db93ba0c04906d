# SPDX-License-Identifier: GPL-2.0-only
"""One-reg ids by name, whichever architecture they are of."""

from pyvmm.arch.arm64 import registers as arm64
from pyvmm.uapi.kvm import KVM_REG_ARCH_MASK, KVM_REG_ARM64


def register_name(register: int) -> str:
    """The name of a one-reg id; its number in hex where it has none."""
    if register & KVM_REG_ARCH_MASK == KVM_REG_ARM64:
        return arm64.name_of(register)
    return f"{register:#x}"
