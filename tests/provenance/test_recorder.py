# SPDX-License-Identifier: GPL-2.0-only
"""The path of real ioctls: a rejected memslot, a failed KVM_RUN, and the threads of each."""

import fcntl
import threading
from pathlib import Path

import pytest

from pyvmm.kvm import Vcpu, Vm
from pyvmm.kvm.memslots import MemslotError
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.provenance import KernelPath, Recorder, tracefs, verdict
from tests.process import in_child

GPA = 1 << 32
SET = "KVM_SET_USER_MEMORY_REGION"


def reject(vm: Vm, memory: Mapping) -> None:
    """Register a memslot at an unaligned GPA."""
    with pytest.raises(MemslotError):
        vm.memslots.add(GPA + 1, memory)


@pytest.fixture
def page() -> Mapping:
    return Mapping.anonymous(PAGE_SIZE)


def test_a_rejected_memslot(recorder: Recorder, vm: Vm, page: Mapping) -> None:
    reject(vm, page)
    path = recorder.first(SET, "EINVAL")
    assert path is not None
    assert path.request is not None
    assert (path.request.gpa, path.request.size) == (GPA + 1, PAGE_SIZE)
    assert path.request.hva == page.hva
    assert path.shows("kvm_vm_ioctl -EINVAL")
    assert "gpa-unaligned" in verdict(path)
    assert path.fault is None


def test_other_ioctls_have_no_path(recorder: Recorder, vm: Vm, page: Mapping) -> None:
    vm.memslots.add(GPA, page)
    with pytest.raises(OSError, match="Invalid|Inappropriate"):  # noqa: RUF043
        fcntl.ioctl(vm.fileno(), 0xAEFF)
    assert recorder.paths() == ()


def test_a_run_of_a_vcpu_that_was_not_initialised(recorder: Recorder, vcpu: Vcpu) -> None:
    vcpu.run()
    path = recorder.last_run()
    assert path is not None
    assert (path.ioctl, path.result) == ("KVM_RUN", "-ENOEXEC")
    assert str(path.decided_by) == "kvm_arch_vcpu_run_pid_change -ENOEXEC"
    assert verdict(path) == ("vcpu-not-initialised",)


def test_paths_of_threads_are_kept_apart(recorder: Recorder, vm: Vm) -> None:
    barrier = threading.Barrier(2)
    found: list[KernelPath | None] = []

    def run(vcpu: Vcpu) -> None:
        vcpu.run()
        barrier.wait()
        found.append(recorder.last_run())

    vcpus = [vm.create_vcpu(index) for index in range(2)]
    threads = [threading.Thread(target=run, args=(vcpu,)) for vcpu in vcpus]
    for thread in threads:
        thread.start()
    native = {thread.native_id for thread in threads}
    for thread in threads:
        thread.join()
    assert {path.thread for path in found if path} == native
    assert recorder.last_run() is None  # this thread ran none


def test_clear(recorder: Recorder, vm: Vm, page: Mapping) -> None:
    reject(vm, page)
    recorder.clear()
    assert recorder.paths() == ()


def test_functions_that_cannot_be_probed_are_named(recorder: Recorder) -> None:
    symbols = Path("/proc/kallsyms").read_text()
    for name in recorder.left_out:
        assert f" T {name}\n" not in symbols
    assert "kvm_vcpu_ioctl" not in recorder.left_out


def test_a_second_recorder_of_a_process_is_an_error(recorder: Recorder) -> None:
    with pytest.raises(Exception, match="File exists"):
        Recorder.of_this_process()


def test_a_process_that_ends_leaves_nothing(recorder: Recorder) -> None:
    place = tracefs.locate()
    before = (place / "kprobe_events").read_text()

    def record() -> str:
        with Recorder.of_this_process():
            during = (place / "kprobe_events").read_text()
        return "removed" if (place / "kprobe_events").read_text() == before != during else during

    assert in_child(record) == "removed"
