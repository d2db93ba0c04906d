# SPDX-License-Identifier: GPL-2.0-only
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyvmm import cli
from pyvmm.caps.caps_report import SCHEMA
from pyvmm.errors import Status
from pyvmm.uapi.names import names
from tests.json_documents import valid
from tests.process import as_nobody, exits_with

pytestmark = pytest.mark.usefixtures("kvm")


@pytest.fixture
def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert cli.main(["caps", "--json"]) == Status.DONE
    said = capsys.readouterr()
    assert said.err == ""
    found: dict[str, Any] = valid(said.out)
    return found


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["caps"]) == Status.DONE
    said = capsys.readouterr().out
    assert "KVM API 12" in said
    assert "cacheable-pfnmap" in said
    assert "KVM_CAP_USER_MEMORY" in said
    assert "\x1b" not in said  # colours only on a terminal
    assert "--all lists them" in said


def test_all_lists_absent_capabilities(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["caps", "--all"]) == Status.DONE
    said = capsys.readouterr().out.split()
    assert set(names("KVM_CAP_").values()) <= set(said)


def test_json(document: dict[str, Any]) -> None:
    assert document["schema"] == SCHEMA
    assert document["kvm"]["api_version"] == 12


def test_nothing_changed(
    document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = tmp_path / "before.json"
    earlier.write_text(json.dumps(document))
    assert cli.main(["caps", "--diff", str(earlier)]) == Status.DONE
    assert capsys.readouterr().out == "nothing changed\n"


@pytest.fixture
def older(document: dict[str, Any], tmp_path: Path) -> Path:
    """Return a report of an older kernel with one capability less and one more."""
    document["host"]["kernel"] = "5.10"
    by_name = {capability["name"]: capability for capability in document["capabilities"]}
    by_name["KVM_CAP_USER_MEMORY"] |= {
        "system": {"value": 0, "errno": None},
        "vm": {"value": 0, "errno": None},
    }
    by_name["KVM_CAP_S390_PSW"]["vm"] = {"value": 1, "errno": None}
    path = tmp_path / "before.json"
    path.write_text(json.dumps(document))
    return path


def test_diff(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["caps", "--diff", str(older)]) == Status.DONE
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["appeared", "KVM_CAP_USER_MEMORY"] in [line[:2] for line in lines]
    assert ["went", "KVM_CAP_S390_PSW"] in [line[:2] for line in lines]
    assert ["changed", "kernel", "5.10"] in [line[:3] for line in lines]


def test_diff_as_json(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["caps", "--diff", str(older), "--json"]) == Status.DONE
    changes = valid(capsys.readouterr().out)["changes"]
    kinds = {change["name"]: change["kind"] for change in changes}
    assert kinds["KVM_CAP_USER_MEMORY"] == "appeared"


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not a report of"),
        ("{}", "is not a report of"),
        ("[1]", "is not a report of"),
        ('{"schema": "pyvmm.caps/2"}', "is not a report of"),
        ('{"schema": "pyvmm.caps/1"}', "is incomplete"),
        ("\udcff", "is not a report of"),
    ],
)
def test_a_file_that_is_not_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, complaint: str
) -> None:
    path = tmp_path / "before.json"
    path.write_text(text, errors="surrogateescape")
    with exits_with(Status.USAGE):
        cli.main(["caps", "--diff", str(path)])
    line = one_line(capsys)
    assert line.startswith("pyvmm: error: ")
    assert complaint in line


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_an_unreadable_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    with exits_with(Status.USAGE):
        cli.main(["caps", "--diff", str(tmp_path / name)])
    assert "cannot read" in one_line(capsys)


@pytest.mark.parametrize("option", [("--json",), ("--diff", "before.json")])
def test_all_has_no_effect_on(option: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with exits_with(Status.USAGE):
        cli.main(["caps", "--all", *option])
    assert f"--all has no effect with {option[0]}" in one_line(capsys)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
PARTS = ["host", "kvm", "capabilities", "features", "verdicts"]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.sampled_from(PARTS), junk=json_values)
def test_a_malformed_report_is_one_line(
    document: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    part: str,
    junk: object,
) -> None:
    path = tmp_path / "malformed.json"
    path.write_text(json.dumps({**document, part: junk}))
    try:
        status: object = cli.main(["caps", "--diff", str(path)])
    except SystemExit as ending:
        status = ending.code
    said = capsys.readouterr()
    if status != Status.DONE:  # a few are still valid reports
        assert status == Status.USAGE
        assert len(said.err.splitlines()) == 1


def test_without_permission() -> None:
    def caps() -> str:
        import contextlib
        import io

        stderr = io.StringIO()
        with contextlib.redirect_stderr(stderr), pytest.raises(SystemExit) as ending:
            cli.main(["caps"])
        return f"{ending.value.code} {stderr.getvalue()}"

    cli.main(["caps", "--json"])  # import all modules first: nobody may not read them
    said = as_nobody(caps)
    assert said.startswith(f"{Status.LACKING} pyvmm: error: cannot open /dev/kvm: Permission")
    assert len(said.splitlines()) == 1
