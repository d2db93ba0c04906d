# SPDX-License-Identifier: GPL-2.0-only
"""C names of numbers."""

import functools
from types import ModuleType


@functools.cache
def names(prefix: str) -> dict[int, str]:
    """Return the constants that start with `prefix`, by value: ``names("KVM_EXIT_")[6]``.

    They are sorted by value, and for the running machine's architecture. A name that extends
    another one (KVM_EXIT_IO_OUT and KVM_EXIT_IO) is a value in its payload and is left out, unless
    it is a capability. If two names have one value, the header's first is used.
    """
    values: dict[str, int] = {}
    for module in _modules(prefix):
        for name, value in vars(module).items():
            if name.startswith(prefix) and type(value) is int:  # not an Ioctl
                values[name] = value
    found: dict[int, str] = {}
    for name, value in values.items():
        if prefix == "KVM_CAP_" or not any(name.startswith(f"{other}_") for other in values):
            found.setdefault(value, name)
    return dict(sorted(found.items()))


def _modules(prefix: str) -> list[ModuleType]:
    if prefix.startswith("VFIO_"):
        from pyvmm.uapi import vfio

        return [vfio]
    if prefix.startswith("IOMMU"):
        from pyvmm.uapi import iommufd

        return [iommufd]
    from pyvmm.uapi import kvm, native_arch

    return [kvm, native_arch.module]
