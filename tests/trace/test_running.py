# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.trace.events import Run
from pyvmm.trace.text import line
from tests.trace.conftest import Traces

READS_A_PORT = """
    from pyvmm.arch.x86_64 import setup
    from pyvmm.kvm.exits import Io
    code = bytes.fromhex("e460f4")  # in al, 0x60; hlt
    with System.open() as system, system.create_vm() as vm, Mapping.anonymous(1 << 16) as ram:
        vm.memslots.add(0, ram)
        ram.write(0x1000, code)
        vcpu = vm.create_vcpu()
        from pyvmm.uapi import kvm_x86_64 as x86
        sregs = x86.kvm_sregs(); vcpu.ioctl(x86.KVM_GET_SREGS, sregs)
        sregs.cs.base = sregs.cs.selector = 0
        vcpu.ioctl(x86.KVM_SET_SREGS, sregs)
        vcpu.ioctl(x86.KVM_SET_REGS, x86.kvm_regs(rip=0x1000, rflags=2))
        assert isinstance(vcpu.run(), Io)
        vcpu.answer(b"\\x5a")
        vcpu.run()
        vcpu.stop()
        vcpu.run()
"""


@pytest.mark.needs_arch("x86_64")
def test_what_the_vmm_and_the_kernel_put_there(trace: Traces) -> None:
    read, halt, stop = [e for e in trace(READS_A_PORT) if isinstance(e, Run)]
    assert (read.exit, read.before) == ("io", {})
    assert {"port": 0x60, "size": 1, "count": 1, "write": False}.items() <= read.payload.items()
    assert (halt.exit, halt.before) == ("hlt", {"answer": "5a"})
    assert (stop.exit, stop.errno, stop.before) == ("intr", "EINTR", {"immediate_exit": 1})
    assert " vm1/vcpu0 KVM_RUN → io port=0x60 size=1 count=1 read" in line(read)
    assert " vm1/vcpu0 KVM_RUN answer=5a → hlt" in line(halt)


def test_exits_of_a_guest(trace: Traces) -> None:
    events = trace(
        """
        from tests.exits_vmm import exiting_machine
        with exiting_machine(5) as machine:
            machine.run()
        """
    )
    runs = [e for e in events if isinstance(e, Run)]
    assert sum(e.exit in ("io", "mmio") for e in runs) >= 5
    assert {e.on for e in runs} == {"vm1/vcpu0"}
    assert all(0 < e.seconds < 60 for e in runs)


def test_a_vm_that_ends_is_not_held(trace: Traces) -> None:
    """A vCPU's page is shared with the trace: with its last descriptor, that has to go."""
    trace(
        """
        from tests.exits_vmm import exiting_machine
        for _ in range(3):
            with exiting_machine(5) as machine:
                machine.run()
        maps = open(f"/proc/{os.getppid()}/maps").read()
        assert "kvm-vcpu" not in maps, maps
        """
    )
