# SPDX-License-Identifier: GPL-2.0-only
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pyvmm import cli
from pyvmm.errors import Status
from pyvmm.memory import PAGE_SIZE, Mapping
from tests.json_documents import valid
from tests.process import exits_with

pytestmark = pytest.mark.usefixtures("kvm")

MISALIGNED = [
    *("explain", "KVM_SET_USER_MEMORY_REGION", "errno=EINVAL", "slot=1"),
    *("guest_phys_addr=0x10", "memory_size=0x1000", "userspace_addr=0x7f0000000000"),
]


def test_a_rejected_memslot(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(MISALIGNED) == Status.DONE
    said = capsys.readouterr().out
    assert "KVM_SET_USER_MEMORY_REGION failed with EINVAL" in said
    assert "known  gpa-unaligned" in said
    assert "overlap" not in said
    assert "are impossible here; --all lists them." in said


def test_what_is_impossible_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*MISALIGNED, "--all"]) == Status.DONE
    assert "too-large" in capsys.readouterr().out


def test_an_errno_that_it_does_not_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "KVM_RUN", "errno=EXDEV"]) == Status.DONE
    assert "knows no condition of this ioctl" in capsys.readouterr().out


def test_a_process_and_its_memslots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Mapping.anonymous(2 * PAGE_SIZE) as memory:
        memory.unmap(at=PAGE_SIZE)
        slot = {"slot": 5, "guest_phys_addr": "0x8000", "memory_size": memory.size}
        path = tmp_path / "slots.json"
        path.write_text(json.dumps([{**slot, "userspace_addr": hex(memory.hva)}]))
        given = ["--pid", str(os.getpid()), "--slots", str(path)]
        failure = ["KVM_RUN", "errno=EFAULT", f"gpa={0x8000 + PAGE_SIZE:#x}"]
        assert cli.main(["explain", *failure, *given]) == Status.DONE
        said = capsys.readouterr().out
        assert cli.main(["explain", *failure, *given, "--json"]) == Status.DONE
        document: dict[str, Any] = valid(capsys.readouterr().out)
    assert "known" in said
    assert f"slot 5, GPA {0x8000 + PAGE_SIZE:#x}" in said
    assert "not mapped" in said
    assert document["schema"] == "pyvmm.explain/1"
    assert document["failure"]["conditions"][0]["name"] == "hva-unmapped"
    assert document["failure"]["conditions"][0]["mark"] == "known"
    assert [piece["gpa"] for piece in document["process"]["pieces"]] == [0x8000, 0x8000 + PAGE_SIZE]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give a failed ioctl, or --pid PID"),
        (["KVM_RUN"], "no errno given for KVM_RUN"),
        (["--pid", "4194305"], "there is no process 4194305"),
        (["--pid", "1", "--slots", "/none"], "cannot read /none"),
        (["--pid", "0"], "argument --pid: '0' is not a process ID"),
        (["KVM_RUN", "errno=EFAULT", "--slots", "/none"], "--slots needs --pid for KVM_RUN"),
        ([*MISALIGNED[1:], "--all", "--json"], "--all has no effect with --json"),
        (["--pid", "1", "--all"], "--all has no effect without a failed ioctl"),
    ],
)
def test_wrong_usage(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with exits_with(Status.USAGE):
        cli.main(["explain", *arguments])
    said = capsys.readouterr()
    assert complaint in said.err
    assert said.out == ""


def test_a_cause_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "hva-unmapped"]) == Status.DONE
    said = capsys.readouterr().out
    assert said.startswith("hva-unmapped\n")
    assert "pyvmm provoke anonymous-unmapped" in said
    assert cli.main(["explain", "hva-unmapped", "--json"]) == Status.DONE
    assert valid(capsys.readouterr().out)["name"] == "hva-unmapped"


def test_the_list_of_causes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "--list"]) == Status.DONE
    assert "\nhva-unmapped " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["hva-unmapped", "--pid", "1"], "have no effect on a cause"),
        (["--list", "--json"], "--list takes nothing else"),
        (["zzz"], "explain --list names them all"),
    ],
    ids=["pid", "list", "unknown"],
)
def test_wrong_usage_of_a_cause(
    command: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with exits_with(Status.USAGE):
        cli.main(["explain", *command])
    assert says in capsys.readouterr().err
