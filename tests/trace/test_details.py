# SPDX-License-Identifier: GPL-2.0-only
import struct

import pytest

from pyvmm.trace.details import DETAILS, Context, Found
from pyvmm.uapi import iommufd, vfio
from pyvmm.uapi import kvm as uapi
from pyvmm.uapi.layout import Struct
from tests.trace.conftest import Traces
from tests.trace.test_decode import ioctl


def test_routes_by_their_type(trace: Traces) -> None:
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
            "type": uapi.KVM_IRQ_ROUTING_MSI,
            "flags": 0,
            "msi": {"address_lo": 0xFEE00000, "address_hi": 0, "data": 0x41, "devid": 0},
        }
    ]
    assert event.names["details.routes[0].type"] == "KVM_IRQ_ROUTING_MSI"
    assert "entries" not in event.argument


@pytest.mark.needs_arch("aarch64")
def test_registers_by_name(trace: Traces) -> None:
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
def test_device_attributes_by_name(trace: Traces) -> None:
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


def details(name: str, argument: Struct | bytes, beyond: dict[int, bytes] | None = None) -> Found:
    """What is found behind an argument at address 0x1000, with `beyond` elsewhere in memory."""
    memory = {0x1000: bytes(argument), **(beyond or {})}

    def read(address: int, size: int) -> bytes:
        return memory.get(address, b"")[:size]

    return DETAILS[name](Context(memory[0x1000], 0x1000, read, False, ""))


def test_a_regions_capabilities() -> None:
    info = vfio.vfio_region_info(
        argsz=32 + 48, flags=vfio.VFIO_REGION_INFO_FLAG_CAPS, index=2, cap_offset=32
    )
    chain = struct.pack("=HHIII", 1, 1, 0, 1, 0) + struct.pack("=QQ", 0x1000, 0x2000)
    found = details("VFIO_DEVICE_GET_REGION_INFO", bytes(info) + chain)
    assert found.values == {"capabilities": ["sparse-mmap 0x1000-0x3000"]}


def test_a_chain_that_loops_is_said_to() -> None:
    info = vfio.vfio_region_info(argsz=40, flags=vfio.VFIO_REGION_INFO_FLAG_CAPS, cap_offset=32)
    found = details("VFIO_DEVICE_GET_REGION_INFO", bytes(info) + struct.pack("=HHI", 1, 1, 32))
    assert str(found.values["capabilities"]).startswith("['malformed: ")


def test_eventfds_of_interrupts() -> None:
    flags = vfio.VFIO_IRQ_SET_DATA_EVENTFD | vfio.VFIO_IRQ_SET_ACTION_TRIGGER
    request = vfio.vfio_irq_set(argsz=28, flags=flags, index=2, count=2)
    found = details("VFIO_DEVICE_SET_IRQS", bytes(request) + struct.pack("=ii", 7, -1))
    assert found.values == {"eventfds": [7, -1]}


def test_a_groups_device_by_name() -> None:
    found = details("VFIO_GROUP_GET_DEVICE_FD", b"0000:01:00.0\0rest")
    assert found.values == {"device": "0000:01:00.0"}


def test_an_ioas_ranges() -> None:
    request = iommufd.iommu_ioas_iova_ranges(num_iovas=2, allowed_iovas=0x9000)
    ranges = struct.pack("=QQQQ", 0, 0x7FFFFFF, 0x8100000, 0xFFFFFFFF)
    found = details("IOMMU_IOAS_IOVA_RANGES", request, {0x9000: ranges})
    assert found.values == {"ranges": ["0x0-0x7ffffff", "0x8100000-0xffffffff"]}


def test_an_absurd_count_reads_no_further_than_there_is() -> None:
    request = iommufd.iommu_ioas_iova_ranges(num_iovas=0xFFFFFFFF, allowed_iovas=0x9000)
    found = details("IOMMU_IOAS_IOVA_RANGES", request, {0x9000: bytes(24)})
    assert found.values == {"ranges": ["0x0-0x0"]}


@pytest.mark.parametrize("name", sorted(DETAILS))
def test_an_argument_that_cannot_be_read_is_survived(name: str) -> None:
    call = Context(b"", 0, lambda address, size: b"", False, "vcpu")
    assert isinstance(DETAILS[name](call), Found)
