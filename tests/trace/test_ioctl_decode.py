# SPDX-License-Identifier: GPL-2.0-only
import re
import struct

import pytest

from pyvmm.trace.events import Event, Ioctl
from pyvmm.trace.ioctl_decode import (
    DETAIL_DECODERS,
    Details,
    IoctlCall,
    find_ioctl,
    ioctl_name,
)
from pyvmm.uapi import iommufd, kvm, vfio
from pyvmm.uapi.layout import Struct
from tests.trace.conftest import Traces


def ioctl(events: list[Event], name: str) -> Ioctl:
    """Return the last event of an ioctl."""
    return [e for e in events if isinstance(e, Ioctl) and e.name == name][-1]


@pytest.mark.parametrize(
    ("number", "kind", "name"),
    [
        (0xAE80, "vcpu", "KVM_RUN"),
        (int(vfio.VFIO_IOMMU_MAP_DMA), "vfio-container", "VFIO_IOMMU_MAP_DMA"),
        (int(vfio.VFIO_DEVICE_PCI_HOT_RESET), "vfio-device", "VFIO_DEVICE_PCI_HOT_RESET"),
        (int(kvm.KVM_GET_ONE_REG), "vcpu", "KVM_GET_ONE_REG"),
        (0xC008AEFF, "vm", "_IOWR(0xae, 0xff, 8 bytes)"),
        (0xAEFE, "", "_IO(0xae, 0xfe, 0 bytes)"),
    ],
)
def test_ioctl_name_depends_on_the_fd(number: int, kind: str, name: str) -> None:
    assert ioctl_name(number, kind) == name


def test_unknown_number_is_not_found() -> None:
    assert find_ioctl(0xC008AEFF, "vm") is None


def test_struct_members_and_flags(trace: Traces) -> None:
    events = trace(
        """
        with System.open() as system, system.create_vm() as vm, Mapping.anonymous(1 << 20) as ram:
            vm.memslots.add(0x4000_0000, ram, readonly=True)
        """
    )
    event = ioctl(events, "KVM_SET_USER_MEMORY_REGION")
    assert event.argument["guest_phys_addr"] == 0x4000_0000
    assert event.argument["memory_size"] == 1 << 20
    assert event.names["argument.flags"] == "KVM_MEM_READONLY"
    assert event.mapped[0]["perms"] == "rw-p"


def test_returned_members_are_separate(trace: Traces) -> None:
    events = trace(
        """
        with System.open() as system, system.create_vm() as vm:
            vm.create_device(uapi.KVM_DEV_TYPE_VFIO)
        """
    )
    event = ioctl(events, "KVM_CREATE_DEVICE")
    assert event.names["argument.type"] == "KVM_DEV_TYPE_VFIO"
    assert list(event.returned) == ["fd"]
    assert event.made == "vm1/kvm-vfio"


def test_capability_number_has_a_name(trace: Traces) -> None:
    events = trace("with System.open() as system: system.check(uapi.KVM_CAP_NR_MEMSLOTS)")
    event = ioctl(events, "KVM_CHECK_EXTENSION")
    assert event.names["argument.argument"] == "KVM_CAP_NR_MEMSLOTS"
    assert event.result > 0


@pytest.mark.parametrize(
    ("pointer", "unread"),
    [
        pytest.param("8", "the 32 bytes at 0x8 cannot be read", id="invalid pointer"),
        pytest.param(
            "half.hva + PAGE_SIZE - 8", "only 8 of the 32 bytes at .* can be read", id="half mapped"
        ),
    ],
)
def test_unreadable_bytes_are_reported(trace: Traces, pointer: str, unread: str) -> None:
    events = trace(
        f"""
        half = Mapping(2 * PAGE_SIZE)
        half.place_anonymous(at=0, size=PAGE_SIZE)
        libc = ctypes.CDLL(None)
        with System.open() as system, system.create_vm() as vm:
            request = ctypes.c_ulong(uapi.KVM_SET_USER_MEMORY_REGION)
            assert libc.ioctl(vm.fileno(), request, ctypes.c_void_p({pointer})) == -1
        """
    )
    event = ioctl(events, "KVM_SET_USER_MEMORY_REGION")
    assert event.errno == "EFAULT"
    assert re.fullmatch(unread, event.unread)


def test_unknown_ioctl(trace: Traces) -> None:
    events = trace(
        """
        with System.open() as system:
            try:
                fcntl.ioctl(system.fileno(), 0xAEFE, 0)
            except OSError:
                pass
        """
    )
    assert ioctl(events, "_IO(0xae, 0xfe, 0 bytes)").errno == "EINVAL"


def test_gsi_routes_by_type(trace: Traces) -> None:
    program = """
        from pyvmm.kvm.eventfds import set_gsi_routing
        route = uapi.kvm_irq_routing_entry(gsi=5, type=uapi.KVM_IRQ_ROUTING_MSI)
        route.u.msi.address_lo, route.u.msi.data = 0xFEE00000, 0x41
        with System.open() as system, system.create_vm() as vm:
            if os.uname().machine == "x86_64":
                from pyvmm.uapi.kvm import KVM_CREATE_IRQCHIP
                vm.ioctl(KVM_CREATE_IRQCHIP)
            else:
                vm.create_device(uapi.KVM_DEV_TYPE_ARM_VGIC_V3)
            set_gsi_routing(vm, [route])
        """
    event = ioctl(trace(program), "KVM_SET_GSI_ROUTING")
    assert event.details["routes"] == [
        {
            "gsi": 5,
            "type": kvm.KVM_IRQ_ROUTING_MSI,
            "flags": 0,
            "msi": {"address_lo": 0xFEE00000, "address_hi": 0, "data": 0x41, "devid": 0},
        }
    ]
    assert event.names["details.routes[0].type"] == "KVM_IRQ_ROUTING_MSI"
    assert "entries" not in event.argument


@pytest.mark.needs_arch("aarch64")
def test_registers_have_names(trace: Traces) -> None:
    events = trace(
        """
        from pyvmm.arch.arm64 import setup
        from pyvmm.arch.arm64.registers import IDS
        with System.open() as system, system.create_vm() as vm:
            vcpu = vm.create_vcpu()
            setup.prepare(system, vm, vcpu)
            vcpu.set_one_reg(IDS["pc"], 0x40200000)
            vcpu.get_one_reg(IDS["TTBR0_EL1"])
        """
    )
    assert ioctl(events, "KVM_SET_ONE_REG").details == {"register": "pc", "value": 0x40200000}
    assert ioctl(events, "KVM_GET_ONE_REG").details["register"] == "TTBR0_EL1"


@pytest.mark.needs_arch("aarch64")
def test_device_attributes_have_names(trace: Traces) -> None:
    events = trace(
        """
        from pyvmm.uapi import kvm_arm64
        with System.open() as system, system.create_vm() as vm:
            vm.create_vcpu()
            vgic = vm.create_device(uapi.KVM_DEV_TYPE_ARM_VGIC_V3)
            group = kvm_arm64.KVM_DEV_ARM_VGIC_GRP_ADDR
            vgic.set_attr(group, kvm_arm64.KVM_VGIC_V3_ADDR_TYPE_DIST, 0x8000000)
        """
    )
    assert ioctl(events, "KVM_SET_DEVICE_ATTR").details == {
        "attribute": "KVM_DEV_ARM_VGIC_GRP_ADDR/KVM_VGIC_V3_ADDR_TYPE_DIST",
        "value": 0x8000000,
    }


def details(name: str, argument: Struct | bytes, memory: dict[int, bytes] | None = None) -> Details:
    """Decode the details of an argument at address 0x1000; `memory` is the rest of the memory."""
    memory = {0x1000: bytes(argument), **(memory or {})}

    def read(address: int, size: int) -> bytes:
        return memory.get(address, b"")[:size]

    return DETAIL_DECODERS[name](IoctlCall(memory[0x1000], 0x1000, read, False, ""))


def test_region_capabilities() -> None:
    info = vfio.vfio_region_info(
        argsz=32 + 48, flags=vfio.VFIO_REGION_INFO_FLAG_CAPS, index=2, cap_offset=32
    )
    chain = struct.pack("=HHIII", 1, 1, 0, 1, 0) + struct.pack("=QQ", 0x1000, 0x2000)
    decoded = details("VFIO_DEVICE_GET_REGION_INFO", bytes(info) + chain)
    assert decoded.values == {"capabilities": ["sparse-mmap 0x1000-0x3000"]}


def test_capability_chain_with_a_loop() -> None:
    info = vfio.vfio_region_info(argsz=40, flags=vfio.VFIO_REGION_INFO_FLAG_CAPS, cap_offset=32)
    decoded = details("VFIO_DEVICE_GET_REGION_INFO", bytes(info) + struct.pack("=HHI", 1, 1, 32))
    assert str(decoded.values["capabilities"]).startswith("['malformed: ")


def test_irq_eventfds() -> None:
    flags = vfio.VFIO_IRQ_SET_DATA_EVENTFD | vfio.VFIO_IRQ_SET_ACTION_TRIGGER
    request = vfio.vfio_irq_set(argsz=28, flags=flags, index=2, count=2)
    decoded = details("VFIO_DEVICE_SET_IRQS", bytes(request) + struct.pack("=ii", 7, -1))
    assert decoded.values == {"eventfds": [7, -1]}


def test_group_device_name() -> None:
    decoded = details("VFIO_GROUP_GET_DEVICE_FD", b"0000:01:00.0\0rest")
    assert decoded.values == {"device": "0000:01:00.0"}


def test_ioas_iova_ranges() -> None:
    request = iommufd.iommu_ioas_iova_ranges(num_iovas=2, allowed_iovas=0x9000)
    ranges = struct.pack("=QQQQ", 0, 0x7FFFFFF, 0x8100000, 0xFFFFFFFF)
    decoded = details("IOMMU_IOAS_IOVA_RANGES", request, {0x9000: ranges})
    assert decoded.values == {"ranges": ["0x0-0x7ffffff", "0x8100000-0xffffffff"]}


def test_count_is_limited_to_readable_memory() -> None:
    request = iommufd.iommu_ioas_iova_ranges(num_iovas=0xFFFFFFFF, allowed_iovas=0x9000)
    decoded = details("IOMMU_IOAS_IOVA_RANGES", request, {0x9000: bytes(24)})
    assert decoded.values == {"ranges": ["0x0-0x0"]}


@pytest.mark.parametrize("name", sorted(DETAIL_DECODERS))
def test_unreadable_argument_has_no_details(name: str) -> None:
    call = IoctlCall(b"", 0, lambda address, size: b"", False, "vcpu")
    assert isinstance(DETAIL_DECODERS[name](call), Details)
