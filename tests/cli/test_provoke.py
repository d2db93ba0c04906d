# SPDX-License-Identifier: GPL-2.0-only

import pytest

from pyvmm.cli import main
from pyvmm.cli import provoke as provoke_command
from pyvmm.errors import Status
from pyvmm.kvm import System
from pyvmm.provoke.testbed import Provocation
from pyvmm.provoke.testbed import Testbed as Bed
from tests.json_documents import valid
from tests.process import exits_with


def read_memory(testbed: Bed) -> None:
    testbed.add_anonymous()
    testbed.read()


def register_twice(testbed: Bed) -> None:
    testbed.add_anonymous()
    testbed.add_anonymous()


def test_the_list_says_what_harms_the_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["provoke", "--list"]) == Status.DONE
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("poisoned")]
    assert "out of use" in line


def test_the_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["provoke", "--list", "--json"]) == Status.DONE
    document = valid(capsys.readouterr().out)
    assert document["schema"] == "pyvmm.provoke-list/1"
    by_name = {each["name"]: each for each in document["provocations"]}
    assert by_name["outside"]["expected"] == "outside-memslots"
    assert by_name["outside"]["harm"] is None
    assert "out of use" in by_name["poisoned"]["harm"]
    assert [each["name"] for each in by_name.values() if each["crashes"]] == ["private-usemem"]


SAFE = Provocation("safe", "", None, read_memory)
HARMFUL = Provocation("harmful", "", None, read_memory, harm="a scratch")
FATAL = Provocation("fatal", "", None, read_memory, harm="a crash", crashes=True)


@pytest.mark.parametrize(
    ("arguments", "run"),
    [
        ([], ["safe"]),
        (["--all"], ["safe", "harmful"]),
        (["fatal"], ["fatal"]),
    ],
    ids=["default", "all", "by name"],
)
def test_harmful_provocations_run_on_request_only(
    kvm: System,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    run: list[str],
) -> None:
    monkeypatch.setattr(provoke_command, "PROVOCATIONS", (SAFE, HARMFUL, FATAL))
    assert main(["provoke", "--json", *arguments]) == Status.DONE
    provoked = valid(capsys.readouterr().out)["provoked"]
    assert [each["name"] for each in provoked] == run


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--list", "outside"], "--list takes no NAME"),
        (["--list", "--all"], "--list takes no NAME"),
        (["--list", "--markdown"], "--list takes no NAME"),
        (["outside", "--all"], "--all has no effect where NAME is given"),
    ],
)
def test_an_option_without_effect(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with exits_with(Status.USAGE):
        main(["provoke", *arguments])
    said = capsys.readouterr()
    assert (said.out, says in said.err) == ("", True)


def test_an_unknown_name_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with exits_with(Status.USAGE):
        main(["provoke", "earthquake"])
    assert "no provocation is named 'earthquake'" in capsys.readouterr().err


def test_json_is_alone_on_stdout(kvm: System, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["provoke", "outside", "--json"]) == Status.DONE
    document = valid(capsys.readouterr().out)
    [provoked] = document["provoked"]
    assert document["schema"] == "pyvmm.provoke/1"
    assert (provoked["kernel"], provoked["fault"]["source"]) == ("KVM_EXIT_MMIO", "kernel")
    assert provoked["fault"]["cause"] == "outside-memslots"
    assert provoked["guest"] == "read 0xffffffff"
    assert (provoked["cause"], provoked["mark"]) == ("outside-memslots", "known")
    assert provoked["as_expected"] is True
    [verdict] = document["verdicts"]
    assert (verdict["name"], verdict["supported"]) == ("outside", True)


def test_a_table_in_markdown(kvm: System, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["provoke", "outside", "read-only-slot", "--markdown"]) == Status.DONE
    head, rule, *rows = capsys.readouterr().out.splitlines()
    assert {line.count("|") for line in (head, rule, *rows)} == {9}
    assert len(rows) == 2


def test_an_unexpected_result_fails_and_shows_the_expected_cause(
    kvm: System, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = Provocation("fine", "a read", "hva-unmapped", read_memory)
    monkeypatch.setattr("pyvmm.cli.provoke.PROVOCATIONS", (fine,))
    assert main(["provoke", "fine", "--markdown"]) == Status.FAILED
    assert "| (expected: hva-unmapped) |" in capsys.readouterr().out


def test_a_rejected_memslot_as_json(
    kvm: System, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = Provocation("twice", "two memslots at one GPA", "overlap", register_twice)
    monkeypatch.setattr("pyvmm.cli.provoke.PROVOCATIONS", (twice,))
    assert main(["provoke", "twice", "--json"]) == Status.DONE
    [provoked] = valid(capsys.readouterr().out)["provoked"]
    assert (provoked["kernel"], provoked["cause"]) == ("EEXIST at registration", "overlap")
    failure = provoked["failure"]
    assert (failure["ioctl"], failure["errno"]) == ("KVM_SET_USER_MEMORY_REGION", "EEXIST")
    assert (failure["mark"], "overlaps slot" in failure["why"]) == ("known", True)


def test_provenance(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["provoke", "outside", "--provenance", "--json"]) == Status.DONE
    said = capsys.readouterr()
    document = valid(said.out)
    [result] = document["provoked"]
    assert result["disagreements"] == []
    if reason := document["provenance"]["skipped"]:
        assert f"--provenance is skipped: {reason}" in said.err
        assert result["provenance"] is None
    else:
        assert result["provenance"]["verdict"] == ["outside-memslots"]


def test_headings_of_provenance(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["provoke", "outside", "--provenance", "--markdown"]) == Status.DONE
    said = capsys.readouterr()
    recorded = "--provenance is skipped" not in said.err
    headings, _, row = said.out.splitlines()
    assert ("the kernel's path" in headings) is recorded
    assert headings.count("|") == row.count("|")
