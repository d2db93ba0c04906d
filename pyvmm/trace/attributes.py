# SPDX-License-Identifier: GPL-2.0-only
"""Device attributes by name.

A group's number means something else on each kind of fd, and the names of all kinds stand side by
side in the headers: so what a device is has to be known (Documentation/virt/kvm/devices/).
"""

from dataclasses import dataclass

from pyvmm.uapi import kvm, kvm_arm64, kvm_x86_64
from pyvmm.uapi.native_arch import module as native


@dataclass(frozen=True)
class Group:
    """A group of attributes: its name, theirs, and how many bytes a value has (0: none)."""

    name: str
    size: int
    attributes: dict[int, str]


def group_of(device: str, group: int) -> Group | None:
    """The group of that number on a kind of fd ("vcpu", "kvm-arm-vgic-v3"); None: no known one."""
    return _GROUPS.get((device, group))


def name_of(device: str, group: int, attribute: int) -> str:
    """``KVM_DEV_ARM_VGIC_GRP_ADDR/KVM_VGIC_V3_ADDR_TYPE_DIST``, or numbers where unknown."""
    known = group_of(device, group)
    if known is None:
        return f"{group}/{attribute:#x}"
    return f"{known.name}/{known.attributes.get(attribute, hex(attribute))}"


def _groups(device: str, table: dict[str, tuple[int, str]]) -> dict[tuple[str, int], Group]:
    """A device's groups, by name: the size of their values and how their attributes' names begin.

    The names are looked up in both architectures' headers: a trace may be of either.
    """
    groups = {}
    for name, (size, prefixes) in table.items():
        attributes = {
            value: symbol
            for symbol, value in _CONSTANTS.items()
            if prefixes and symbol.startswith(tuple(prefixes.split())) and symbol != name
        }
        groups[device, _CONSTANTS[name]] = Group(name, size, attributes)
    return groups


_CONSTANTS: dict[str, int] = {
    name: value
    for module in (kvm, kvm_x86_64, kvm_arm64)
    for name, value in vars(module).items()
    if name.startswith("KVM_") and type(value) is int
}

_VGIC_CONTROL = "KVM_DEV_ARM_VGIC_CTRL_ KVM_DEV_ARM_ITS_ KVM_DEV_ARM_VGIC_SAVE_"

_GROUPS: dict[tuple[str, int], Group] = {
    **_groups(
        "kvm-arm-vgic-v3",
        {
            "KVM_DEV_ARM_VGIC_GRP_ADDR": (8, "KVM_VGIC_V3_ADDR_TYPE_"),
            "KVM_DEV_ARM_VGIC_GRP_DIST_REGS": (4, ""),
            "KVM_DEV_ARM_VGIC_GRP_NR_IRQS": (4, ""),
            "KVM_DEV_ARM_VGIC_GRP_CTRL": (0, _VGIC_CONTROL),
            "KVM_DEV_ARM_VGIC_GRP_REDIST_REGS": (4, ""),
            "KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS": (8, ""),
            "KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO": (4, ""),
            "KVM_DEV_ARM_VGIC_GRP_MAINT_IRQ": (4, ""),
        },
    ),
    **_groups(
        "kvm-arm-vgic-v2",
        {
            "KVM_DEV_ARM_VGIC_GRP_ADDR": (8, "KVM_VGIC_V2_ADDR_TYPE_"),
            "KVM_DEV_ARM_VGIC_GRP_DIST_REGS": (4, ""),
            "KVM_DEV_ARM_VGIC_GRP_CPU_REGS": (4, ""),
            "KVM_DEV_ARM_VGIC_GRP_NR_IRQS": (4, ""),
            "KVM_DEV_ARM_VGIC_GRP_CTRL": (0, _VGIC_CONTROL),
        },
    ),
    **_groups(
        "kvm-arm-vgic-its",
        {
            "KVM_DEV_ARM_VGIC_GRP_ADDR": (8, "KVM_VGIC_ITS_ADDR_TYPE"),
            "KVM_DEV_ARM_VGIC_GRP_CTRL": (0, _VGIC_CONTROL),
            "KVM_DEV_ARM_VGIC_GRP_ITS_REGS": (8, ""),
        },
    ),
    **_groups("kvm-vfio", {"KVM_DEV_VFIO_FILE": (4, "KVM_DEV_VFIO_FILE_")}),
    **(
        _groups(
            "vcpu",
            {
                "KVM_ARM_VCPU_PMU_V3_CTRL": (4, "KVM_ARM_VCPU_PMU_V3_"),
                "KVM_ARM_VCPU_TIMER_CTRL": (4, "KVM_ARM_VCPU_TIMER_IRQ_"),
                "KVM_ARM_VCPU_PVTIME_CTRL": (8, "KVM_ARM_VCPU_PVTIME_"),
            },
        )
        if native is kvm_arm64
        else {
            **_groups("vcpu", {"KVM_VCPU_TSC_CTRL": (8, "KVM_VCPU_TSC_OFFSET")}),
            **_groups("system", {"KVM_X86_GRP_SYSTEM": (8, "KVM_X86_XCOMP_")}),
        }
    ),
}
