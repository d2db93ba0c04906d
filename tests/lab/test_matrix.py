# SPDX-License-Identifier: GPL-2.0-only
"""Run a command on several hosts, and format the results."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from pyvmm import kcidb
from pyvmm.errors import LackingError
from pyvmm.lab import host, matrix, qemu
from pyvmm.lab.apt import no_progress
from tests.kcidb_io import Validate, validate

__all__ = ["validate"]


def _caps(supported: bool, why: str) -> str:
    verdicts = [
        {"name": "same", "supported": True, "why": "everywhere"},
        {"name": "other", "supported": supported, "why": why},
    ]
    return json.dumps({"verdicts": verdicts})


def test_table_has_the_verdicts_that_differ() -> None:
    cells = [
        matrix.Cell("max", "lab", 0, _caps(True, "both"), ""),
        matrix.Cell("neoverse-n1", "lab", 0, _caps(False, "no FWB"), ""),
        matrix.Cell("max", "old", 3, "", "", "it crashed"),
    ]
    headings, rows = matrix.table(cells)
    assert headings == ["cpu", "kernel", "status", "other", "why"]
    assert [row[3:] for row in rows] == [["yes", "both"], ["no", "no FWB"], ["", "it crashed"]]


def test_table_of_other_output_has_the_last_line() -> None:
    cells = [matrix.Cell("max", "lab", 0, "one\ntwo | three\n", "")]
    assert matrix.markdown(cells).splitlines()[-1] == r"| max | lab | 0 | two \| three |"


@pytest.mark.parametrize(
    "output",
    [
        '{"verdicts": 1}',
        '{"verdicts": [1]}',
        '{"verdicts": [{"name": "a"}]}',
        "[" * 100_000,
    ],
    ids=["number", "list of numbers", "no reason", "deep"],
)
def test_output_that_is_no_caps_report_is_text(output: str) -> None:
    cells = [matrix.Cell("max", "lab", 0, output, "")]
    assert matrix.table(cells)[1] == [["max", "lab", "0", output]]


def test_verdict_that_one_host_lacks() -> None:
    report = json.dumps({"verdicts": [{"name": "same", "supported": True, "why": "everywhere"}]})
    cells = [
        matrix.Cell("max", "lab", 0, _caps(True, "both"), ""),
        matrix.Cell("neoverse-n1", "lab", 0, _caps(False, "no FWB"), ""),
        matrix.Cell("max", "old", 0, report, ""),
    ]
    assert [row[3:] for row in matrix.table(cells)[1]] == [
        ["yes", "both"],
        ["no", "no FWB"],
        ["", ""],
    ]


@pytest.mark.parametrize("change", [{"stdout": 1}, {"devices": [None]}, {"mode": 2}, {"cpu": None}])
def test_saved_cell_with_a_wrong_type_is_damaged(change: dict[str, object], tmp_path: Path) -> None:
    saved = tmp_path / "cell.json"
    saved.write_text(json.dumps(asdict(matrix.Cell("max", "lab", 0, "", "")) | change))
    with pytest.raises(LackingError, match="has no result of lab matrix"):
        matrix._load(saved)


def test_document_has_the_output_of_each_run() -> None:
    cells = [
        matrix.Cell("max", "lab", 0, '{"a": 1}', "note"),
        matrix.Cell("max", "b", 3, "", "", "x"),
    ]
    runs = matrix.document(cells, ["caps", "--json"])["runs"]
    assert [(run["stdout"], run["error"]) for run in runs] == [({"a": 1}, None), ("", "x")]


def test_table_has_the_modes() -> None:
    cells = [matrix.Cell("max", "lab", 0, "x", "", mode=mode) for mode in (None, "protected")]
    headings, rows = matrix.table(cells)
    assert headings == ["cpu", "kernel", "mode", "status", "output"]
    assert [row[2] for row in rows] == ["default", "protected"]


def test_resumed_matrix_keeps_the_cells(emulated: host.Host, tmp_path: Path) -> None:
    hosts = [
        host.prepare(emulated.qemu, emulated.kernel, qemu.EmulatedMachine(cpu=cpu), no_progress)
        for cpu in ("cortex-a57", "none")
    ]
    command = ["od", "-N", "16", "/dev/urandom"]
    [cell, _] = matrix.run(hosts, command, 300, no_progress, tmp_path)
    [saved] = tmp_path.iterdir()
    [again, _] = matrix.run(hosts, command, 300, no_progress, tmp_path)
    assert again == cell
    [other, _] = matrix.run(hosts, [*command, "-v"], 300, no_progress, tmp_path)
    assert len(cell.stdout) == len(other.stdout) > 32
    assert cell.stdout != other.stdout
    saved.write_text("damaged")
    with pytest.raises(LackingError, match=re.escape(f"{saved} has no result of lab matrix")):
        matrix.run(hosts[:1], command, 300, no_progress, tmp_path)


def test_one_host_at_a_time(emulated: host.Host) -> None:
    hosts = [
        host.prepare(emulated.qemu, emulated.kernel, qemu.EmulatedMachine(cpu=cpu), no_progress)
        for cpu in ("cortex-a57", "max")
    ]
    command = ["sh", "-c", "date +%s; sleep 3; date +%s"]
    cells = matrix.run(hosts, command, 300, no_progress, jobs=1)
    times = [int(line) for cell in cells for line in cell.stdout.split()]
    assert times == sorted(times)


def _provoked(name: str, as_expected: bool, skipped: str = "") -> dict[str, object]:
    cause = None if skipped else "hva-unmapped"
    how, named = f"how {name}", {"name": name, "cause": cause}
    return named | {
        "how": how,
        "as_expected": as_expected,
        "skipped": skipped or None,
        "disagreements": [],
    }


def test_kcidb_document(validate: Validate) -> None:
    provoked = [
        _provoked("good", True),
        _provoked("bad", False),
        _provoked("absent", True, "needs a device"),
    ]
    cells = [
        matrix.Cell("max", "lab", 1, json.dumps({"provoked": provoked}), "", mode="nvhe"),
        matrix.Cell("max", "debian-6.12.107+deb13", 3, "", "", "it crashed"),
        matrix.Cell("max", "old", 4, "", "this kernel has no such thing"),
        matrix.Cell("none", "lab", 2, "", "", "unknown CPU"),
    ]
    text = json.dumps(kcidb.document(matrix.kcidb_tests(cells, ["provoke", "--json"])))
    validate(text)
    tests = json.loads(text)["tests"]
    assert [(test["path"], test["status"]) for test in tests] == [
        ("pyvmm.provoke.good", "PASS"),
        ("pyvmm.provoke.bad", "FAIL"),
        ("pyvmm.provoke.absent", "SKIP"),
        ("pyvmm.provoke", "MISS"),
        ("pyvmm.provoke", "SKIP"),
        ("pyvmm.provoke", "ERROR"),
    ]
    assert tests[1]["misc"]["cause"] == "hva-unmapped"
    assert tests[1]["misc"]["mode"] == "nvhe"
    assert tests[3]["log_excerpt"] == "it crashed"


def test_failed_host_is_a_row(emulated: host.Host) -> None:
    hosts = [
        host.prepare(emulated.qemu, emulated.kernel, qemu.EmulatedMachine(cpu=cpu), no_progress)
        for cpu in ("cortex-a57", "none")
    ]
    cells = matrix.run(hosts, ["uname", "-m"], 300, no_progress)
    assert [(cell.cpu, cell.status) for cell in cells] == [("cortex-a57", 0), ("none", 2)]
    assert cells[0].stdout == "aarch64\n"
    assert "unknown CPU 'none'" in cells[1].error
