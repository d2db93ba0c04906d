# SPDX-License-Identifier: GPL-2.0-only
"""Decode an ioctl by its request number and fd: its name, its argument, and what it points to.

The argument is read from the tracee before the call and again after it. Data that a struct of
fixed members does not describe is decoded by one function per ioctl (`DETAIL_DECODERS`).
"""

import ctypes
import signal
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyvmm.kvm.vcpu import register_size
from pyvmm.trace.symbols import attr_group, attr_name, register_name, symbol_of
from pyvmm.trace.values import Names, Value, Values, struct_size, struct_values
from pyvmm.uapi import iommufd, kvm, native_arch, vfio
from pyvmm.uapi.ioctl_number import Ioctl
from pyvmm.uapi.layout import Struct
from pyvmm.vfio import cap_chains, region_caps

Read = Callable[[int, int], bytes]  # (address, size) → the bytes that can be read


def _ioctls() -> Iterator[Ioctl]:
    for module in (kvm, native_arch.module, vfio, iommufd):
        for value in vars(module).values():
            if isinstance(value, Ioctl):
                yield value


# A request number may belong to two ioctls: vfio reuses numbers from VFIO_BASE + 12 for several
# kinds of fd, and KVM for several architectures.
_BY_FD: dict[tuple[int, str], Ioctl] = {
    (int(ioctl), kind): ioctl for ioctl in _ioctls() for kind in ioctl.fds
}
_BY_NUMBER: dict[int, Ioctl] = {int(ioctl): ioctl for ioctl in reversed(list(_ioctls()))}
IOCTLS = {ioctl.name: ioctl for ioctl in _BY_FD.values()}
_DIRECTIONS = ("_IO", "_IOW", "_IOR", "_IOWR")

_MAX_BYTES = 4096  # limit for lengths that a tracee gives
_ROUTES = {
    kvm.KVM_IRQ_ROUTING_IRQCHIP: "irqchip",
    kvm.KVM_IRQ_ROUTING_MSI: "msi",
    kvm.KVM_IRQ_ROUTING_S390_ADAPTER: "adapter",
    kvm.KVM_IRQ_ROUTING_HV_SINT: "hv_sint",
    kvm.KVM_IRQ_ROUTING_XEN_EVTCHN: "xen_evtchn",
}
_SIGNALS = {int(number) for number in signal.Signals}


def find_ioctl(number: int, kind: str) -> Ioctl | None:
    """Return the ioctl with request `number` on an fd of this kind, or None if unknown."""
    return _BY_FD.get((number, kind)) or _BY_NUMBER.get(number)


def ioctl_name(number: int, kind: str) -> str:
    """Return the name of an ioctl, or for an unknown one the C macro: ``_IO(0xae, 0xfe, …)``."""
    if ioctl := find_ioctl(number, kind):
        return ioctl.name
    direction, type_ = _DIRECTIONS[number >> 30 & 3], number >> 8 & 0xFF
    return f"{direction}({type_:#x}, {number & 0xFF:#x}, {number >> 16 & 0x3FFF} bytes)"


@dataclass
class Decoded:
    """A decoded ioctl.

    Attributes:
        argument: the members that user space passed.
        returned: the members that the kernel changed.
        details: data that the argument points to: a register's name and value, a capability chain.
        names: symbolic names of numbers, by path: "argument.flags".
        unread: a sentence about the bytes that could not be read, or "".
    """

    argument: Values = field(default_factory=dict)
    returned: Values = field(default_factory=dict)
    details: Values = field(default_factory=dict)
    names: Names = field(default_factory=dict)
    unread: str = ""


@dataclass
class Details:
    """Decoded data that an ioctl's argument points to.

    Attributes:
        replaces: the member of the argument that `values` describes better, or "".
    """

    values: Values = field(default_factory=dict)
    names: Names = field(default_factory=dict)
    replaces: str = ""


@dataclass(frozen=True)
class IoctlCall:
    """An ioctl that has returned.

    Attributes:
        before: the bytes of its argument before the call.
        address: the address of its argument in the tracee.
        read: reads the tracee's memory after the call.
        device: the kind of fd, or the name of an in-kernel device.
    """

    before: bytes
    address: int
    read: Read
    failed: bool
    device: str


DetailDecoder = Callable[[IoctlCall], Details]


def argument_members(ioctl: Ioctl) -> tuple[str, ...]:
    """Return the names in the result of `IoctlArgument.before`."""
    if ioctl.argument is None:
        return ("argument",)
    return ioctl.argument.members if issubclass(ioctl.argument, Struct) else ("value",)


class IoctlArgument:
    """The argument of one ioctl, read before the call and again after it."""

    def __init__(self, ioctl: Ioctl, value: int, read: Read, device: str) -> None:
        """Read the argument; `device` is the kind of fd, or the name of an in-kernel device."""
        self.ioctl = ioctl
        self._device = device
        self._value = value
        self._read = read
        self._before = self._load()

    def before(self, names: Names) -> Values:
        """Return the members that user space passes; add symbolic names to `names`."""
        if self.ioctl.argument is not None:
            return _values(self.ioctl.argument, self._before, names, "")
        if symbol := symbol_of(self.ioctl.name, self._value):
            names["argument"] = symbol
        return {"argument": self._value} if self._value or symbol else {}

    def decode(self, failed: bool) -> Decoded:
        """Return the complete decoded ioctl. Call it after the ioctl has returned."""
        kind, name = self.ioctl.argument, self.ioctl.name
        decoded = Decoded()
        if kind is None:
            symbols: Names = {}
            decoded.argument = self.before(symbols)
            decoded.names = {f"argument.{path}": symbol for path, symbol in symbols.items()}
        else:
            # KVM_SET_IRQCHIP and others are defined as _IOR although user space passes the data.
            reads = self.ioctl.direction == "read" and not name.startswith("KVM_SET_")
            if not reads:
                decoded.argument = _values(kind, self._before, decoded.names, "argument.")
            if reads or (self.ioctl.direction in ("read-write", "none") and not failed):
                after = _values(kind, self._load(), decoded.names, "returned.")
                decoded.returned = _changed({} if reads else decoded.argument, after)
            decoded.unread = self._unread()
        if decoder := DETAIL_DECODERS.get(name):
            details = decoder(
                IoctlCall(self._before, self._value, self._read, failed, self._device)
            )
            decoded.details = details.values
            if details.replaces:
                decoded.argument.pop(details.replaces, None)
            decoded.names |= {f"details.{path}": symbol for path, symbol in details.names.items()}
        return decoded

    def _load(self) -> bytes:
        kind = self.ioctl.argument
        if kind is None or not self._value:
            return b""
        size = ctypes.sizeof(kind)
        data = self._read(self._value, size)
        if (
            len(data) == size
            and issubclass(kind, Struct)
            and (whole := struct_size(kind, data)) > size
        ):
            data = self._read(self._value, whole)
        return data

    def _unread(self) -> str:
        kind = self.ioctl.argument
        if kind is None or (not self._value and not ctypes.sizeof(kind)):
            return ""
        size = ctypes.sizeof(kind)
        if issubclass(kind, Struct):
            size = struct_size(kind, self._before)
        if len(self._before) >= size:
            return ""
        return (
            f"only {len(self._before)} of the {size} bytes at {self._value:#x} can be read"
            if self._before
            else f"the {size} bytes at {self._value:#x} cannot be read"
        )


def _values(kind: type[Any], data: bytes, names: Names, prefix: str) -> Values:
    if issubclass(kind, Struct):
        symbols: Names = {}
        values = struct_values(kind, data, symbols)
        names |= {f"{prefix}{path}": symbol for path, symbol in symbols.items()}
        return values
    return {"value": kind.from_buffer_copy(data).value} if len(data) >= ctypes.sizeof(kind) else {}


def _changed(before: Values, after: Values) -> Values:
    return {name: value for name, value in after.items() if before.get(name) != value}


def _one_reg(call: IoctlCall) -> Details:
    request = _struct(kvm.kvm_one_reg, call.before)
    details = Details({"register": register_name(request.id)})
    size = register_size(request.id)
    if not call.failed and len(data := call.read(request.addr, size)) == size:
        details.values["value"] = int.from_bytes(data, "little")
    return details


def _device_attr(call: IoctlCall) -> Details:
    request = _struct(kvm.kvm_device_attr, call.before)
    details = Details({"attribute": attr_name(call.device, request.group, request.attr)})
    group = attr_group(call.device, request.group)
    size = group.size if group else 0
    if size and not call.failed and len(data := call.read(request.addr, size)) == size:
        details.values["value"] = int.from_bytes(data, "little")
    return details


def _gsi_routing(call: IoctlCall) -> Details:
    """Decode each ``kvm_irq_routing_entry`` with the union member that its type selects."""
    entry, head = kvm.kvm_irq_routing_entry, ctypes.sizeof(kvm.kvm_irq_routing)
    routes: list[Value] = []
    details = Details({"routes": routes}, replaces="entries")
    size = ctypes.sizeof(entry)
    for start in range(head, len(call.before) - size + 1, size):
        data = call.before[start : start + size]
        route = entry.from_buffer_copy(data)
        prefix = f"routes[{len(routes)}]."
        values = struct_values(entry, data, details.names, prefix)
        if member := _ROUTES.get(route.type):
            del values["u"]
            union = getattr(route.u, member)
            values[member] = struct_values(
                type(union), bytes(union), details.names, f"{prefix}{member}."
            )
        routes.append(values)
    return details


def _signal_mask(call: IoctlCall) -> Details:
    """Decode the signals that are blocked while the guest runs."""
    mask = int.from_bytes(call.before[ctypes.sizeof(kvm.kvm_signal_mask) :], "little")
    blocked = [signal.Signals(n).name if n in _SIGNALS else str(n) for n in _signal_numbers(mask)]
    return Details({"blocked": "all" if len(blocked) > 60 else [*blocked]})


def _signal_numbers(mask: int) -> Sequence[int]:
    return [bit + 1 for bit in range(64) if mask >> bit & 1]


def _capability_chain(kind: type[Any], flag: int, region: bool) -> DetailDecoder:
    """Return a decoder for the capability chain after one of vfio's INFO structs."""

    def decode(call: IoctlCall) -> Details:
        info = _struct(kind, call.read(call.address, ctypes.sizeof(kind)))
        if call.failed or not info.flags & flag:
            return Details()
        if not info.cap_offset:
            return Details({"capabilities": [f"{info.argsz} bytes needed"]})
        data = call.read(call.address, min(info.argsz, _MAX_BYTES))
        try:
            links = cap_chains.walk(data, info.cap_offset, ctypes.sizeof(kind))
            shown = [str(region_caps.decode(x)) if region else f"capability {x.id}" for x in links]
        except cap_chains.MalformedChainError as error:
            shown = [f"malformed: {error}"]
        return Details({"capabilities": [*shown]})

    return decode


def _set_irqs(call: IoctlCall) -> Details:
    """Decode the eventfds or booleans after ``struct vfio_irq_set``."""
    request = _struct(vfio.vfio_irq_set, call.before)
    data = call.before[ctypes.sizeof(vfio.vfio_irq_set) :]
    count = min(request.count, _MAX_BYTES)
    if request.flags & vfio.VFIO_IRQ_SET_DATA_EVENTFD:
        fds = struct.unpack_from(f"={min(count, len(data) // 4)}i", data)
        return Details({"eventfds": [*fds]})
    if request.flags & vfio.VFIO_IRQ_SET_DATA_BOOL:
        return Details({"bools": [*data[:count]]})
    return Details()


def _device_name(call: IoctlCall) -> Details:
    text, end, _ = call.read(call.address, _MAX_BYTES).partition(b"\0")
    return Details({"device": text.decode(errors="replace")} if end else {})


def _iova_ranges(kind: type[Any]) -> DetailDecoder:
    def decode(call: IoctlCall) -> Details:
        request = _struct(kind, call.read(call.address, ctypes.sizeof(kind)))
        size = ctypes.sizeof(iommufd.iommu_iova_range)
        data = call.read(request.allowed_iovas, min(request.num_iovas, _MAX_BYTES // size) * size)
        ranges = struct.iter_unpack("=QQ", data[: len(data) // size * size])
        return Details({"ranges": [f"{start:#x}-{last:#x}" for start, last in ranges]})

    return decode


def _driver_data(kind: type[Any], pointer: str, length: str) -> DetailDecoder:
    """Return a decoder that shows driver-specific data behind a pointer as hex."""

    def decode(call: IoctlCall) -> Details:
        request = _struct(kind, call.read(call.address, ctypes.sizeof(kind)))
        data = call.read(getattr(request, pointer), min(getattr(request, length), _MAX_BYTES))
        return Details({"data": data.hex()} if data else {})

    return decode


def _struct(kind: type[Any], data: bytes) -> Any:
    return kind.from_buffer_copy(data.ljust(ctypes.sizeof(kind), b"\0"))


DETAIL_DECODERS: dict[str, DetailDecoder] = {
    "KVM_GET_ONE_REG": _one_reg,
    "KVM_SET_ONE_REG": _one_reg,
    "KVM_GET_DEVICE_ATTR": _device_attr,
    "KVM_SET_DEVICE_ATTR": _device_attr,
    "KVM_HAS_DEVICE_ATTR": _device_attr,
    "KVM_SET_GSI_ROUTING": _gsi_routing,
    "KVM_SET_SIGNAL_MASK": _signal_mask,
    "VFIO_DEVICE_GET_INFO": _capability_chain(
        vfio.vfio_device_info, vfio.VFIO_DEVICE_FLAGS_CAPS, region=False
    ),
    "VFIO_DEVICE_GET_REGION_INFO": _capability_chain(
        vfio.vfio_region_info, vfio.VFIO_REGION_INFO_FLAG_CAPS, region=True
    ),
    "VFIO_IOMMU_GET_INFO": _capability_chain(
        vfio.vfio_iommu_type1_info, vfio.VFIO_IOMMU_INFO_CAPS, region=False
    ),
    "VFIO_DEVICE_SET_IRQS": _set_irqs,
    "VFIO_GROUP_GET_DEVICE_FD": _device_name,
    "IOMMU_IOAS_IOVA_RANGES": _iova_ranges(iommufd.iommu_ioas_iova_ranges),
    "IOMMU_IOAS_ALLOW_IOVAS": _iova_ranges(iommufd.iommu_ioas_allow_iovas),
    "IOMMU_HWPT_ALLOC": _driver_data(iommufd.iommu_hwpt_alloc, "data_uptr", "data_len"),
    "IOMMU_GET_HW_INFO": _driver_data(iommufd.iommu_hw_info, "data_uptr", "data_len"),
}
