# SPDX-License-Identifier: GPL-2.0-only
import errno
import os
from pathlib import Path

import pytest

from pyvmm.errors import UsageError
from pyvmm.trace.events import Ioctl, Run
from pyvmm.trace.inject import Rule, parse, read_scenario
from pyvmm.uapi.kvm import KVM_CAP_READONLY_MEM
from tests.trace.conftest import Traces

MEMSLOT = "KVM_SET_USER_MEMORY_REGION"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "cap:KVM_CAP_READONLY_MEM=0",
            {
                "ioctl": "KVM_CHECK_EXTENSION",
                "where": (("argument", KVM_CAP_READONLY_MEM),),
                "result": 0,
            },
        ),
        (
            f"ioctl:{MEMSLOT} where guest_phys_addr=0x1000 and slot=1:errno=EINVAL",
            {
                "ioctl": MEMSLOT,
                "where": (("guest_phys_addr", 0x1000), ("slot", 1)),
                "result": -errno.EINVAL,
            },
        ),
        ("ioctl:KVM_IRQFD:delay=5ms after=3", {"delay": 0.005, "after": 3, "times": None}),
        ("ioctl:KVM_IRQFD:return=0", {"result": 0}),
        ("run:errno=EHWPOISON after=100", {"result": -133, "after": 100, "times": 1}),
        ("run:delay=1s vcpu=2", {"delay": 1.0, "vcpu": 2, "times": None}),
        (
            "run:memory_fault gpa=0x40000000 size=0x2000 flags=8 times=3",
            {"fault": (0x4000_0000, 0x2000, 8), "result": -errno.EFAULT, "times": 3},
        ),
        ("run:memory_fault gpa=4096", {"fault": (4096, 0x1000, 0), "times": 1}),
    ],
)
def test_parse(text: str, expected: dict[str, object]) -> None:
    rule = parse(text)
    assert {name: getattr(rule, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot parse injection rule"),
        ("cap:KVM_CAP_NONSENSE=0", "do not define KVM_CAP_NONSENSE"),
        ("cap:KVM_CAP_HLT=lots", "'lots' is not a number"),
        ("ioctl:KVM_NONSENSE:errno=EINVAL", "do not define ioctl KVM_NONSENSE"),
        ("ioctl:KVM_IRQFD:errno=EWHAT", "unknown errno EWHAT"),
        ("ioctl:KVM_IRQFD:explode=1", "the action must be errno=, return= or delay="),
        ("ioctl:KVM_IRQFD where gsi:errno=EINVAL", "a condition must be MEMBER=VALUE"),
        ("ioctl:KVM_IRQFD where gsl=5:errno=EINVAL", "KVM_IRQFD has no gsl; use fd, gsi, flags"),
        ("ioctl:KVM_CREATE_VM where type=1:errno=EINVAL", "has no type; use argument"),
        ("ioctl:KVM_RUN where argument=1:errno=EINVAL", "KVM_RUN has no argument"),
        ("ioctl:KVM_IRQFD where gsi=five:errno=EINVAL", "do not define five"),
        ("ioctl:KVM_IRQFD where gsi=1|five:errno=EINVAL", "do not define five"),
        ("ioctl:KVM_IRQFD:errno=EINVAL vcpu=1", "vcpu= needs run:"),
        (f"cap:KVM_CAP_NR_MEMSLOTS={10**22}", f"{10**22} does not fit 64 bits"),
        ("cap:KVM_CAP_NR_MEMSLOTS=4294967296", "4294967296 does not fit a C int"),
        ("ioctl:KVM_IRQFD:return=0x80000000", "0x80000000 does not fit a C int"),
        (f"run:memory_fault gpa={1 << 64:#x}", "does not fit 64 bits"),
        (f"ioctl:KVM_IRQFD where gsi={1 << 64}:errno=EINVAL", "does not fit 64 bits"),
        (f"run:delay={10**22}s", "a delay is a number below 2147483648 with a unit"),
        ("ioctl:KVM_IRQFD:delay=5", "with a unit: us, ms or s"),
        ("ioctl:KVM_IRQFD:errno=EINVAL before=5", "unknown option before="),
        ("run:memory_fault size=4096", "needs gpa="),
    ],
)
def test_parse_error(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(text)


def test_scenario_rules_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "kernel.toml"
    path.write_text('inject = ["cap:KVM_CAP_HLT=0", "run:delay=1ms"]')
    assert read_scenario(path) == ["cap:KVM_CAP_HLT=0", "run:delay=1ms"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("inject = [", "is not valid TOML"),
        ("inject = '\udcff'", "is not valid TOML"),
        ("inject = " + "[" * 10_000, "is not valid TOML"),
        ("", "it needs inject"),
        ("inject = [1]", "is not a scenario"),
        ("inject = []\nname = 'x'", "unknown keys: name"),
    ],
)
def test_invalid_scenario_is_rejected(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(os.fsencode(content))
    with pytest.raises(UsageError, match=message):
        read_scenario(path)


def test_missing_scenario_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_scenario(tmp_path / "none.toml")


def test_after_and_times_count_matching_calls() -> None:
    rule = Rule("", "KVM_IRQFD", where=(("gsi", 5),), after=2, times=3)
    applied = [rule.applies({"gsi": gsi}) for gsi in (5, 9, 5, 5, 9, 5, 5, 5)]
    assert applied == [False, False, False, True, False, True, True, False]


def test_condition_accepts_symbolic_names() -> None:
    rule = parse("ioctl:KVM_CREATE_DEVICE where type=KVM_DEV_TYPE_VFIO:errno=ENODEV")
    assert rule.applies({"type": 4})
    rule = parse(f"ioctl:{MEMSLOT} where flags=KVM_MEM_READONLY|1:errno=EINVAL")
    assert rule.applies({"flags": 3})


def test_injected_capability_is_marked(trace: Traces) -> None:
    rule = "cap:KVM_CAP_READONLY_MEM=0"
    events = trace(
        """
        with System.open() as system:
            sys.exit(system.check(uapi.KVM_CAP_READONLY_MEM) or not system.check(0))
        """,
        rule,
    )
    injected = [e for e in events if isinstance(e, Ioctl) and e.injected]
    assert [(e.result, e.injected) for e in injected] == [(0, rule)]


def test_memslot_is_rejected_by_its_address(trace: Traces) -> None:
    trace(
        """
        with System.open() as system, system.create_vm() as vm, Mapping.anonymous(1 << 20) as ram:
            vm.memslots.add(0, ram)
            try:
                vm.memslots.add(1 << 30, ram)
            except IoctlError as error:
                sys.exit(error.errno != 28)
        sys.exit(1)
        """,
        f"ioctl:{MEMSLOT} where guest_phys_addr=0x40000000:errno=ENOSPC",
    )


RUNS = """
    from pyvmm.kvm.exits import MemoryFault, RunFailure
    from tests.exits_vmm import exiting_machine
    with exiting_machine(1000) as machine:
        outcome = machine.run()
        records = machine.faults.records
"""


def test_injected_memory_fault_is_handled_by_the_vmm(trace: Traces) -> None:
    """The traced pyvmm handles the fault, finds no cause, and replays the access."""
    events = trace(
        RUNS
        + """
    [record] = records
    assert record.fault.report.exit == MemoryFault(0, 0x40200000, 0x1000, 14)
    assert (record.fault.region, record.fix, record.outcome) == ("RAM", "replay", "resolved")
    assert outcome.exits["memory_fault"] == 1
    assert outcome.exits.get("io", 0) + outcome.exits.get("mmio", 0) >= 1000
        """,
        "run:memory_fault gpa=0x40200000 size=0x1000 flags=0 after=100",
    )
    runs = [e for e in events if isinstance(e, Run)]
    [fault] = [e for e in runs if e.exit == "memory_fault"]
    assert runs.index(fault) == 100
    assert (fault.errno, fault.payload, fault.why) == (
        "EFAULT",
        {"flags": 0, "gpa": 0x4020_0000, "size": 0x1000},
        "",
    )
    assert not fault.names


def test_injected_efault_without_address(trace: Traces) -> None:
    events = trace(
        RUNS + "    assert records[0].fault.report.exit == RunFailure(14)",
        "run:errno=EFAULT after=100",
    )
    assert [e.exit for e in events if isinstance(e, Run) and e.injected] == ["run_failure"]


def test_delay_holds_each_run(trace: Traces) -> None:
    events = trace(RUNS + "    assert not records", "run:delay=20ms after=5 times=10")
    delayed = [e for e in events if isinstance(e, Run) and e.injected]
    assert len(delayed) == 10
    assert all(event.seconds >= 0.02 for event in delayed)


def test_rule_for_another_vcpu_does_not_apply(trace: Traces) -> None:
    trace(RUNS + "    assert not records", "run:errno=EFAULT vcpu=1")
