# SPDX-License-Identifier: GPL-2.0-only
"""The conditions of `pyvmm.why` that no provocation fulfils, and why not."""

_NO_PRIVATE_MEMORY = (
    "only x86 has it, in a VM type with private memory (KVM_X86_SW_PROTECTED_VM, SNP, TDX): the "
    "lab emulates arm64"
)

UNPROVOKED = {
    "memory-attributes": _NO_PRIVATE_MEMORY,
    "guest-memfd-missing": _NO_PRIVATE_MEMORY,
}
"""The reason, by the condition's name."""
