# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.trace.events import Event, Ioctl
from tests.trace.conftest import Traces


def labels(events: list[Event], name: str) -> list[str]:
    """Return the label of the object of each call of an ioctl, in order."""
    return [e.on for e in events if isinstance(e, Ioctl) and e.name == name]


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        pytest.param("system.check(0); vm.check(0)", ["kvm", "vm1"], id="by /proc link"),
        pytest.param("copy = os.dup(vm.fileno()); fcntl.ioctl(copy, 0xAE03, 0)", ["vm1"], id="dup"),
        pytest.param(
            "copy = os.dup2(vm.fileno(), 77); vm.close(); fcntl.ioctl(77, 0xAE03, 0)",
            ["vm1"],
            id="original closed",
        ),
        pytest.param(
            "number = vm.fileno(); vm.close(); system.create_vm(0).check(0)",
            ["vm2"],
            id="number reused",
        ),
        pytest.param(
            "other = system.create_vm(0); other.check(0); vm.check(0)",
            ["vm2", "vm1"],
            id="two VMs",
        ),
        pytest.param(
            """
            os.dup2(os.open("/dev/kvm", os.O_RDWR), vm.fileno()); vm.check(0)
            """,
            ["kvm"],
            id="replaced by dup2",
        ),
    ],
)
def test_descriptor_is_identified(trace: Traces, program: str, expected: list[str]) -> None:
    events = trace(f"system = System.open()\nvm = system.create_vm(0)\n{program.strip()}")
    assert labels(events, "KVM_CHECK_EXTENSION")[-len(expected) :] == expected


def test_inherited_descriptor_is_identified(trace: Traces) -> None:
    events = trace(
        """
        system = System.open(); vm = system.create_vm(0)
        if not os.fork():
            try:
                fcntl.ioctl(vm.fileno(), 0xAE03, 0)  # EIO: not the VM's process
            finally:
                os._exit(0)
        os.wait()
        """
    )
    last = [e for e in events if isinstance(e, Ioctl)][-1]
    assert (last.on, last.errno) == ("vm1", "EIO")


def test_descriptor_from_a_socket_is_identified(trace: Traces) -> None:
    """The sender closes its descriptor before the receiver gets its copy."""
    events = trace(
        """
        import socket
        sender, receiver = socket.socketpair()
        system = System.open(); vm = system.create_vm(0)
        socket.send_fds(sender, [b"x"], [vm.fileno()])
        vm.close()
        [received] = socket.recv_fds(receiver, 1, 1)[1]
        fcntl.ioctl(received, 0xAE03, 0)
        """
    )
    assert labels(events, "KVM_CHECK_EXTENSION")[-1] == "vm1"


def test_vcpu_label_has_its_vm(trace: Traces) -> None:
    events = trace(
        """
        with System.open() as system, system.create_vm() as vm:
            vm.create_vcpu(1)
        """
    )
    [made] = [e.made for e in events if isinstance(e, Ioctl) and e.name == "KVM_CREATE_VCPU"]
    assert made == "vm1/vcpu1"


def test_closed_descriptor_is_shown_as_a_number(trace: Traces) -> None:
    events = trace(
        """
        try:
            fcntl.ioctl(99, 0xAE03, 0)
        except OSError:
            pass
        """
    )
    [event] = [e for e in events if isinstance(e, Ioctl)]
    assert (event.on, event.errno) == ("fd 99", "EBADF")
