# SPDX-License-Identifier: GPL-2.0-only
import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import pytest

from pyvmm.guest import probe, repeat
from pyvmm.guest.payload import Payload
from pyvmm.guest.probe import Op, Probe
from pyvmm.ioctl import IoctlError
from pyvmm.kvm import System, Vcpu, Vm
from pyvmm.kvm.exits import Interrupted, Mmio, RunFailure
from pyvmm.kvm.stop_signal import STOP_SIGNAL
from pyvmm.kvm.vcpu import register_size
from pyvmm.machine import Machine
from pyvmm.machine.run_loop import RunOutcome
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.uapi.kvm import KVM_CAP_ONE_REG, KVM_REG_SIZE_U64, KVM_REG_X86
from pyvmm.uapi.kvm_x86_64 import KVM_X86_REG_TYPE_MSR
from tests.kvm.conftest import Touch
from tests.kvm.gpas import DEVICE_GPA, MEMORY_GPA
from tests.process import open_fds
from tests.userfaultfds import watched_for_missing

FOREVER = 1 << 60
PORT = 0x80


class Counter:
    """A device that calls `action` at its `count`-th write."""

    def __init__(self, count: int, action: Callable[[], object]) -> None:
        self.count, self.action = count, action

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        self.count -= 1
        if self.count == 0:
            self.action()


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as thread:
        yield thread


def spin(machine: Machine) -> None:
    """Load a guest that loops without exits."""
    machine.load(Payload.builtin("spin", machine.arch.NAME))
    machine.enter()


def exit_forever(machine: Machine, device: Counter) -> None:
    """Load a guest that writes to `device` in an endless loop."""
    machine.mmio.attach(DEVICE_GPA, 0x100, device)
    machine.ports.attach(PORT, 1, device)
    machine.load(Payload.builtin("exits", machine.arch.NAME))
    machine.enter(repeat.pack(FOREVER, PORT if machine.arch.CONSOLE_IS_PORT else DEVICE_GPA))


def is_interrupted(running: Future[RunOutcome]) -> bool:
    return running.result(timeout=60).last_exit == Interrupted()


def test_stop_a_spinning_guest(machine: Machine, thread: ThreadPoolExecutor) -> None:
    spin(machine)
    running = thread.submit(machine.run)
    with pytest.raises(TimeoutError):
        running.result(timeout=0.1)
    machine.vcpu.stop()
    assert is_interrupted(running)


@pytest.mark.needs_arch("aarch64")
def test_stop_waits_for_a_userfaultfd(machine: Machine, thread: ThreadPoolExecutor) -> None:
    """The signal is pending, and the vCPU's thread sleeps until the page is there."""
    with Mapping.anonymous(PAGE_SIZE) as memory, watched_for_missing(memory) as uffd:
        machine.vm.memslots.add(MEMORY_GPA, memory)
        machine.load(Payload.builtin("probe", machine.arch.NAME))
        machine.enter(probe.pack([Probe(MEMORY_GPA)]))
        assert machine.vcpu.blocked_in is None
        running = thread.submit(machine.run)
        wait_until(lambda: machine.vcpu.blocked_in == "handle_userfault")
        machine.vcpu.stop()
        wait_until(lambda: stop_signal_is_pending(machine.vcpu))
        assert machine.vcpu.blocked_in == "handle_userfault"
        uffd.zero(memory.hva)
        assert is_interrupted(running)


def stop_signal_is_pending(vcpu: Vcpu) -> bool:
    status = Path(f"/proc/self/task/{vcpu._runner}/status").read_text()
    pending = int(status.partition("SigPnd:")[2].split()[0], 16)
    return bool(pending >> STOP_SIGNAL - 1 & 1)


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError


def test_stop_a_guest_that_exits(machine: Machine, thread: ThreadPoolExecutor) -> None:
    started = threading.Event()
    exit_forever(machine, Counter(10, started.set))
    running = thread.submit(machine.run)
    assert started.wait(60)
    machine.vcpu.stop()
    assert is_interrupted(running)


def test_device_stops_the_guest(machine: Machine) -> None:
    exit_forever(machine, Counter(10, machine.vcpu.stop))
    outcome = machine.run()
    assert outcome.last_exit == Interrupted()
    assert sum(outcome.exits.values()) == 11


def test_stop_before_run(machine: Machine) -> None:
    spin(machine)
    machine.vcpu.stop()
    assert machine.vcpu.stopping
    assert machine.vcpu.run() == Interrupted()


def test_complete_exit_keeps_a_stop(machine: Machine) -> None:
    spin(machine)
    machine.vcpu.stop()
    machine.vcpu.complete_exit()
    assert machine.vcpu.run() == Interrupted()


def test_resume(machine: Machine, thread: ThreadPoolExecutor) -> None:
    spin(machine)
    for _ in range(3):
        running = thread.submit(machine.run)
        machine.vcpu.stop()
        assert is_interrupted(running)
        machine.vcpu.resume()
        assert not machine.vcpu.stopping


def test_answer_before_a_stop_is_kept(machine: Machine, touch: Touch) -> None:
    outcome, _ = touch(Probe(DEVICE_GPA, 4), Probe(DEVICE_GPA + 4, 4, Op.WRITE, 1))
    machine.vcpu.answer(b"\x2a\0\0\0")
    machine.vcpu.stop()
    assert machine.vcpu.run() == Interrupted()
    machine.vcpu.resume()
    assert outcome.last_exit == Mmio(DEVICE_GPA, 4, False, 0)
    assert machine.vcpu.run() == Mmio(DEVICE_GPA + 4, 4, True, 1)


def test_vcpu_created_in_another_thread(kvm: System, thread: ThreadPoolExecutor) -> None:
    def make() -> Machine:
        machine = Machine(kvm)
        spin(machine)
        return machine

    with thread.submit(make).result(60) as machine:
        running = thread.submit(machine.run)
        with pytest.raises(TimeoutError):
            running.result(timeout=0.1)
        machine.vcpu.stop()
        assert is_interrupted(running)


def test_stop_in_several_threads(machine: Machine) -> None:
    spin(machine)
    for _ in range(3):  # a new thread may have the pthread_t of the last
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(machine.run)
            with pytest.raises(TimeoutError):
                running.result(timeout=0.05)
            machine.vcpu.stop()
            assert is_interrupted(running)
            machine.vcpu.resume()


def test_stop_after_the_run(machine: Machine) -> None:
    exit_forever(machine, Counter(1, machine.vcpu.stop))
    with ThreadPoolExecutor(1) as thread:
        assert is_interrupted(thread.submit(machine.run))
    machine.vcpu.stop()
    machine.close()
    machine.vcpu.stop()


def test_other_signal_does_not_end_the_run(machine: Machine) -> None:
    spin(machine)
    handled = []

    def handler(number: int, frame: FrameType | None) -> None:
        handled.append(number)
        if len(handled) == 3:
            machine.vcpu.stop()

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    try:
        outcome = machine.run()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert outcome.last_exit == Interrupted()
    assert len(handled) >= 3
    assert outcome.exits["intr"] >= 3


def test_keyboard_interrupt(machine: Machine) -> None:
    spin(machine)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        machine.run()
    timer.join()


def test_answer_before_a_run(vcpu: Vcpu) -> None:
    with pytest.raises(ValueError, match="neither MMIO nor port"):
        vcpu.answer(b"\0")


@pytest.mark.needs_arch("aarch64")
def test_run_before_vcpu_init(vcpu: Vcpu) -> None:
    assert vcpu.run() == RunFailure(errno.ENOEXEC)


def test_run_after_close(vm: Vm) -> None:
    vcpu = vm.create_vcpu()
    before = open_fds()
    vcpu.close()
    vcpu.close()
    assert len(open_fds()) == len(before) - 1
    assert vcpu.kvm_run.exit_reason == 0
    assert vcpu.mapping.size == 0
    with pytest.raises(ValueError, match="closed"):
        vcpu.run()


@pytest.mark.needs_arch("aarch64")
def test_every_listed_register_can_be_read(kvm: System, machine: Machine) -> None:
    machine.arch.prepare(kvm, machine.vm, machine.vcpu)
    registers = machine.vcpu.reg_list()
    assert len(registers) > 100
    for register in registers:
        assert machine.vcpu.get_one_reg(register) >> 8 * register_size(register) == 0


@pytest.mark.needs_arch("aarch64")
def test_register_round_trip(kvm: System, machine: Machine) -> None:
    machine.arch.prepare(kvm, machine.vm, machine.vcpu)
    machine.arch.write(machine.vcpu, {"x5": 0xDEAD_BEEF_0000_0001, "v3": 1 << 127})
    assert machine.arch.read(machine.vcpu, "x5") == 0xDEAD_BEEF_0000_0001
    assert machine.arch.read(machine.vcpu, "v3") == 1 << 127


@pytest.mark.needs_arch("x86_64")
def test_msr_as_one_reg(machine: Machine) -> None:
    if not machine.vm.check(KVM_CAP_ONE_REG):
        pytest.skip("this kernel has no one-reg on x86-64; newer ones have KVM_CAP_ONE_REG")
    pat = KVM_REG_X86 | KVM_REG_SIZE_U64 | KVM_X86_REG_TYPE_MSR << 32 | 0x277
    machine.vcpu.set_one_reg(pat, 0x0007_0406)
    assert machine.vcpu.get_one_reg(pat) == 0x0007_0406
    assert machine.arch.read(machine.vcpu, "pat") == 0x0007_0406


def test_unknown_register(vcpu: Vcpu) -> None:
    with pytest.raises(IoctlError, match="KVM_GET_ONE_REG on the vcpu fd"):
        vcpu.get_one_reg(KVM_REG_SIZE_U64 | 0xFFFF)


def test_too_large_a_value(vcpu: Vcpu) -> None:
    with pytest.raises(OverflowError):
        vcpu.set_one_reg(KVM_REG_SIZE_U64, 1 << 64)


@pytest.mark.parametrize(("exponent", "size"), [(0, 1), (2, 4), (3, 8), (4, 16), (8, 256)])
def test_register_size(exponent: int, size: int) -> None:
    assert register_size(exponent << 52 | 7) == size
