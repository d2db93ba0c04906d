# SPDX-License-Identifier: GPL-2.0-only
"""Each condition of ``KVM_RUN`` on the state of the vCPU, on facts that break it or exclude it."""

import errno

import pytest

from pyvmm.why import AccessFacts, Host, VcpuState, Vgic, VmState, judge, most_likely
from pyvmm.why.condition import Condition
from pyvmm.why.vcpu_conditions import CONDITIONS
from tests.why.hosts import ARM64_WITHOUT_FWB, X86

READY = VcpuState()
NO_INIT = VcpuState(initialised=False)
NOT_FINALISED = VcpuState(finalised=False)
PLACED = VcpuState(vgic=Vgic())
NO_VGIC_INIT = VcpuState(vgic=Vgic(initialised=False))


def facts(
    number: int,
    vcpu: VcpuState = READY,
    vm: VmState | None = None,
    host: Host = ARM64_WITHOUT_FWB,
) -> AccessFacts:
    """Return the facts of a ``KVM_RUN`` that failed with an errno."""
    state = vm or VmState()
    return AccessFacts(
        errno=number, host=host, read_vm_state=lambda: state, read_vcpu_state=lambda: vcpu
    )


# The condition, what the case is, its facts, and the mark, "not tested" for another errno.
ROWS: tuple[tuple[str, str, AccessFacts, str], ...] = (
    ("bad-descriptor", "closed", facts(errno.EBADF, VcpuState(file="")), "known"),
    ("bad-descriptor", "open", facts(errno.EBADF), "impossible"),
    ("bad-descriptor", "EFAULT", facts(errno.EFAULT), "not tested"),
    ("not-a-vcpu", "a file", facts(errno.ENOTTY, VcpuState(file="/dev/null")), "known"),
    ("not-a-vcpu", "a VM", facts(errno.EINVAL, VcpuState(file="anon_inode:kvm-vm")), "known"),
    ("not-a-vcpu", "a vCPU", facts(errno.ENOTTY), "impossible"),
    ("another-process", "forked", facts(errno.EIO, vm=VmState(same_process=False)), "known"),
    ("another-process", "the creator", facts(errno.EIO), "impossible"),
    ("vm-dead", "dead", facts(errno.EIO, vm=VmState(dead=True)), "known"),
    ("vm-dead", "alive", facts(errno.EIO), "impossible"),
    (
        "vcpu-not-initialised",
        "no init",
        facts(errno.ENOEXEC, NO_INIT),
        "known",
    ),
    ("vcpu-not-initialised", "initialised", facts(errno.ENOEXEC), "impossible"),
    ("vcpu-not-initialised", "on x86", facts(errno.ENOEXEC, host=X86), "impossible"),
    (
        "vcpu-not-finalised",
        "not finalised",
        facts(errno.EPERM, NOT_FINALISED),
        "known",
    ),
    ("vcpu-not-finalised", "finalised", facts(errno.EPERM), "impossible"),
    ("vcpu-not-finalised", "on x86", facts(errno.EPERM, host=X86), "impossible"),
    (
        "vgic-not-placed",
        "no GPA",
        facts(errno.ENXIO, VcpuState(vgic=Vgic(unplaced="the distributor"))),
        "known",
    ),
    ("vgic-not-placed", "placed", facts(errno.ENXIO, PLACED), "impossible"),
    ("vgic-not-placed", "no vGIC", facts(errno.ENXIO), "impossible"),
    ("vgic-overlap", "one GPA", facts(errno.EINVAL, VcpuState(vgic=Vgic(overlap="a, b"))), "known"),
    ("vgic-overlap", "apart", facts(errno.EINVAL, PLACED), "impossible"),
    (
        "vgic-not-initialised",
        "no init",
        facts(errno.EBUSY, NO_VGIC_INIT),
        "known",
    ),
    (
        "vgic-not-initialised",
        "initialised",
        facts(errno.EBUSY, PLACED),
        "impossible",
    ),
    ("pmu-not-initialised", "PMU", facts(errno.EINVAL, VcpuState(has_pmu=True)), "inferred"),
    ("pmu-not-initialised", "no PMU", facts(errno.EINVAL), "impossible"),
    (
        "sync-regs",
        "unknown bit",
        facts(errno.EINVAL, VcpuState(unknown_sync_regs=8), host=X86),
        "known",
    ),
    ("sync-regs", "none", facts(errno.EINVAL, host=X86), "impossible"),
    ("signal", "immediate_exit", facts(errno.EINTR, VcpuState(immediate_exit=True)), "known"),
    ("signal", "a signal", facts(errno.EINTR), "inferred"),
    ("signal", "EFAULT", facts(errno.EFAULT), "not tested"),
)


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [pytest.param(name, known, mark, id=f"{name}-{case}") for name, case, known, mark in ROWS],
)
def test_finding(name: str, known: AccessFacts, expected: str) -> None:
    [condition] = [each for each in CONDITIONS if each.name == name]
    findings = list(judge([condition], known))
    assert [finding.mark for finding in findings] == (
        [] if expected == "not tested" else [expected]
    )


def test_each_condition_is_broken_and_excluded_by_some_facts() -> None:
    for condition in CONDITIONS:
        marks = {mark for name, *_, mark in ROWS if name == condition.name}
        assert marks & {"known", "inferred"}, condition.name
        assert marks & {"impossible", "not tested"}, condition.name


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_without_the_state_a_condition_is_undecided(
    condition: Condition[AccessFacts],
) -> None:
    host = X86 if condition.arch == "x86_64" else ARM64_WITHOUT_FWB
    [finding] = judge([condition], AccessFacts(errno=condition.errnos[0], host=host))
    assert finding.mark == "inferred"
    assert finding.needs in (
        "the state of the vCPU and of its descriptor",
        "the process that created the VM, and whether it is dead",
    )


def test_a_forked_process_comes_before_a_dead_vm() -> None:
    """Every ioctl of a forked process fails with EIO, so it cannot see whether the VM is dead."""
    found = most_likely(CONDITIONS, facts(errno.EIO, vm=VmState(same_process=False, dead=True)))
    assert found
    assert found.name == "another-process"
