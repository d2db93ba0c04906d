# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.trace.event_text import event_line
from pyvmm.trace.events import Run
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
def test_input_and_exit_of_each_run(trace: Traces) -> None:
    read, halt, stop = [e for e in trace(READS_A_PORT) if isinstance(e, Run)]
    assert (read.exit, read.before) == ("io", {})
    assert {"port": 0x60, "size": 1, "count": 1, "write": False}.items() <= read.payload.items()
    assert (halt.exit, halt.before) == ("hlt", {"answer": "5a"})
    assert (stop.exit, stop.errno, stop.before) == ("intr", "EINTR", {"immediate_exit": 1})
    assert " vm1/vcpu0 KVM_RUN → io port=0x60 size=1 count=1 read" in event_line(read)
    assert " vm1/vcpu0 KVM_RUN answer=5a → hlt" in event_line(halt)


def test_page_is_unmapped_after_the_last_close(trace: Traces) -> None:
    """The mapping would otherwise keep the tracee's VM alive."""
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
