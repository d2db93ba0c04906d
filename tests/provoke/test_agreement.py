# SPDX-License-Identifier: GPL-2.0-only
"""Each provoked cause compared with the kernel's own path to the failure, recorded by ftrace."""

from dataclasses import replace

import pytest

from pyvmm.memory import PAGE_SIZE
from pyvmm.provenance import Recorder, verdict
from pyvmm.provoke.agreement import disagreements
from pyvmm.provoke.runner import PROVOCATIONS, ProvocationResult, provoke
from pyvmm.why import Unseen, kvm_run

# KVM does not see KVM_RUN on another file's descriptor.
WITHOUT_PATH = ("vcpu-closed", "vcpu-is-vm")
CRASHES = "private-usemem"  # the kernel, unless it is patched
SLOW = "gpu-reset"  # 30 seconds, which test_runner takes too
BY_NAME = {each.name: each for each in PROVOCATIONS}

pytestmark = pytest.mark.needs_arch("aarch64")


def run_provocation(name: str, recorder: Recorder) -> ProvocationResult:
    [result] = provoke([BY_NAME[name]], recorder)
    if result.skipped:
        pytest.skip(result.skipped)
    return result


@pytest.mark.parametrize("name", [name for name in BY_NAME if name not in (CRASHES, SLOW)])
def test_kernel_and_condition_agree(name: str, recorder: Recorder) -> None:
    result = run_provocation(name, recorder)
    assert result.disagreements == ()
    assert (result.path is None) == (result.cause is None or name in WITHOUT_PATH)


@pytest.mark.parametrize("name", ["anonymous-unmapped", "truncated", "no-access"])
def test_the_kernel_reports_the_address_that_pyvmm_rebuilt(name: str, recorder: Recorder) -> None:
    result = run_provocation(name, recorder)
    assert result.record is not None
    assert result.path is not None
    assert result.path.fault is not None
    report = result.record.fault.report
    assert (report.gpa, report.pc) == (result.path.fault.ipa, result.path.fault.pc)


def test_another_cause_disagrees(recorder: Recorder) -> None:
    path = run_provocation("truncated", recorder).path
    assert path is not None
    for condition in kvm_run.CONDITIONS:
        if condition.name != "file-truncated" and not isinstance(condition.evidence, Unseen):
            assert list(disagreements(condition.name, path, None, recorder.left_out))


def test_another_address_disagrees(recorder: Recorder) -> None:
    result = run_provocation("truncated", recorder)
    assert result.record is not None
    report = result.record.fault.report
    assert report.gpa is not None
    assert report.pc is not None
    for other in (replace(report, gpa=report.gpa + PAGE_SIZE), replace(report, pc=report.pc + 4)):
        assert list(disagreements("file-truncated", result.path, other, recorder.left_out))


def test_an_attempt_that_kvm_recovered_from_is_no_cause(recorder: Recorder) -> None:
    """get_user_pages rejects a BAR; KVM then follows its page tables."""
    path = run_provocation("memory-off", recorder).path
    assert path is not None
    assert "check_vma_flags" in [step.function for step in path.steps]
    assert "check_vma_flags" not in [step.function for step in path.causes]
    assert "device-memory-off" in verdict(path)


def test_the_log_lines_of_the_failure(recorder: Recorder) -> None:
    path = run_provocation("anonymous-unmapped", recorder).path
    assert path is not None
    assert path.shows("log: Failed to find VMA")
    assert not path.shows("log: Unsupported FSC")


def test_nothing_is_recorded_without_a_recorder() -> None:
    [result] = provoke([BY_NAME["outside"]])
    assert (result.path, result.disagreements) == (None, ())
