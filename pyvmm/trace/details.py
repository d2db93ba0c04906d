# SPDX-License-Identifier: GPL-2.0-only
"""What an ioctl's argument leads to, where a struct of fixed members does not say it.

One function an ioctl: it gets the argument's bytes as they were before the call, and reads the
tracee's memory as it is after it.
"""

import ctypes
import signal
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyvmm.kvm.vcpu import register_size
from pyvmm.trace import attributes
from pyvmm.trace.registers import register_name
from pyvmm.trace.values import Names, Value, Values, plain
from pyvmm.uapi import iommufd, kvm, vfio
from pyvmm.vfio import cap_chains, region_caps

Read = Callable[[int, int], bytes]

_LONGEST = 4096  # bytes of anything that a tracee says is long
_ROUTES = {
    kvm.KVM_IRQ_ROUTING_IRQCHIP: "irqchip",
    kvm.KVM_IRQ_ROUTING_MSI: "msi",
    kvm.KVM_IRQ_ROUTING_S390_ADAPTER: "adapter",
    kvm.KVM_IRQ_ROUTING_HV_SINT: "hv_sint",
    kvm.KVM_IRQ_ROUTING_XEN_EVTCHN: "xen_evtchn",
}


@dataclass
class Found:
    """Values by name, and the headers' names of the numbers among them.

    `instead` is the member of the argument that they say better.
    """

    values: Values = field(default_factory=dict)
    names: Names = field(default_factory=dict)
    instead: str = ""


@dataclass(frozen=True)
class Context:
    """An ioctl that has returned.

    Attributes:
        before: its argument's bytes as they were before the call.
        at: where they are.
        read: reads the tracee's memory as it is now.
        device: what kind of fd it was asked of; an in-kernel device's own name.
    """

    before: bytes
    at: int
    read: Read
    failed: bool
    device: str


Detail = Callable[[Context], Found]


def _one_register(call: Context) -> Found:
    request = _struct(kvm.kvm_one_reg, call.before)
    found = Found({"register": register_name(request.id)})
    size = register_size(request.id)
    if not call.failed and len(data := call.read(request.addr, size)) == size:
        found.values["value"] = int.from_bytes(data, "little")
    return found


def _device_attribute(call: Context) -> Found:
    request = _struct(kvm.kvm_device_attr, call.before)
    found = Found({"attribute": attributes.name_of(call.device, request.group, request.attr)})
    group = attributes.group_of(call.device, request.group)
    size = group.size if group else 0
    if size and not call.failed and len(data := call.read(request.addr, size)) == size:
        found.values["value"] = int.from_bytes(data, "little")
    return found


def _routes(call: Context) -> Found:
    """Each route by its type's own member of the union."""
    entry, head = kvm.kvm_irq_routing_entry, ctypes.sizeof(kvm.kvm_irq_routing)
    routes: list[Value] = []
    found = Found({"routes": routes}, instead="entries")
    size = ctypes.sizeof(entry)
    for start in range(head, len(call.before) - size + 1, size):
        data = call.before[start : start + size]
        route = entry.from_buffer_copy(data)
        place = f"routes[{len(routes)}]."
        values = plain(entry, data, found.names, place)
        if member := _ROUTES.get(route.type):
            del values["u"]
            held = getattr(route.u, member)
            values[member] = plain(type(held), bytes(held), found.names, f"{place}{member}.")
        routes.append(values)
    return found


def _signals(call: Context) -> Found:
    """The signals that stay blocked while the guest runs."""
    mask = int.from_bytes(call.before[ctypes.sizeof(kvm.kvm_signal_mask) :], "little")
    named = [signal.Signals(n).name if n in _SIGNALS else str(n) for n in _numbers(mask)]
    return Found({"blocked": "all" if len(named) > 60 else [*named]})


_SIGNALS = {int(number) for number in signal.Signals}


def _numbers(mask: int) -> Sequence[int]:
    return [bit + 1 for bit in range(64) if mask >> bit & 1]


def _capability_chain(kind: type[Any], flag: int, region: bool) -> Detail:
    """The chain behind one of vfio's INFO structs."""

    def detail(call: Context) -> Found:
        info = _struct(kind, call.read(call.at, ctypes.sizeof(kind)))
        if call.failed or not info.flags & flag:
            return Found()
        if not info.cap_offset:
            return Found({"capabilities": [f"{info.argsz} bytes needed"]})
        data = call.read(call.at, min(info.argsz, _LONGEST))
        try:
            links = cap_chains.walk(data, info.cap_offset, ctypes.sizeof(kind))
            shown = [str(region_caps.decode(x)) if region else f"capability {x.id}" for x in links]
        except cap_chains.MalformedChainError as error:
            shown = [f"malformed: {error}"]
        return Found({"capabilities": [*shown]})

    return detail


def _irqs(call: Context) -> Found:
    """The eventfds, or the booleans, after ``struct vfio_irq_set``."""
    request = _struct(vfio.vfio_irq_set, call.before)
    data = call.before[ctypes.sizeof(vfio.vfio_irq_set) :]
    count = min(request.count, _LONGEST)
    if request.flags & vfio.VFIO_IRQ_SET_DATA_EVENTFD:
        fds = struct.unpack_from(f"={min(count, len(data) // 4)}i", data)
        return Found({"eventfds": [*fds]})
    if request.flags & vfio.VFIO_IRQ_SET_DATA_BOOL:
        return Found({"bools": [*data[:count]]})
    return Found()


def _device_name(call: Context) -> Found:
    text, end, _ = call.read(call.at, _LONGEST).partition(b"\0")
    return Found({"device": text.decode(errors="replace")} if end else {})


def _iova_ranges(kind: type[Any]) -> Detail:
    def detail(call: Context) -> Found:
        request = _struct(kind, call.read(call.at, ctypes.sizeof(kind)))
        size = ctypes.sizeof(iommufd.iommu_iova_range)
        data = call.read(request.allowed_iovas, min(request.num_iovas, _LONGEST // size) * size)
        ranges = struct.iter_unpack("=QQ", data[: len(data) // size * size])
        return Found({"ranges": [f"{start:#x}-{last:#x}" for start, last in ranges]})

    return detail


def _behind(kind: type[Any], pointer: str, length: str) -> Detail:
    """Driver-specific data that a struct points to: shown as it is."""

    def detail(call: Context) -> Found:
        request = _struct(kind, call.read(call.at, ctypes.sizeof(kind)))
        data = call.read(getattr(request, pointer), min(getattr(request, length), _LONGEST))
        return Found({"data": data.hex()} if data else {})

    return detail


def _struct(kind: type[Any], data: bytes) -> Any:
    return kind.from_buffer_copy(data.ljust(ctypes.sizeof(kind), b"\0"))


DETAILS: dict[str, Detail] = {
    "KVM_GET_ONE_REG": _one_register,
    "KVM_SET_ONE_REG": _one_register,
    "KVM_GET_DEVICE_ATTR": _device_attribute,
    "KVM_SET_DEVICE_ATTR": _device_attribute,
    "KVM_HAS_DEVICE_ATTR": _device_attribute,
    "KVM_SET_GSI_ROUTING": _routes,
    "KVM_SET_SIGNAL_MASK": _signals,
    "VFIO_DEVICE_GET_INFO": _capability_chain(
        vfio.vfio_device_info, vfio.VFIO_DEVICE_FLAGS_CAPS, region=False
    ),
    "VFIO_DEVICE_GET_REGION_INFO": _capability_chain(
        vfio.vfio_region_info, vfio.VFIO_REGION_INFO_FLAG_CAPS, region=True
    ),
    "VFIO_IOMMU_GET_INFO": _capability_chain(
        vfio.vfio_iommu_type1_info, vfio.VFIO_IOMMU_INFO_CAPS, region=False
    ),
    "VFIO_DEVICE_SET_IRQS": _irqs,
    "VFIO_GROUP_GET_DEVICE_FD": _device_name,
    "IOMMU_IOAS_IOVA_RANGES": _iova_ranges(iommufd.iommu_ioas_iova_ranges),
    "IOMMU_IOAS_ALLOW_IOVAS": _iova_ranges(iommufd.iommu_ioas_allow_iovas),
    "IOMMU_HWPT_ALLOC": _behind(iommufd.iommu_hwpt_alloc, "data_uptr", "data_len"),
    "IOMMU_GET_HW_INFO": _behind(iommufd.iommu_hw_info, "data_uptr", "data_len"),
}
