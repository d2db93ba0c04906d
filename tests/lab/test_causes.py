# SPDX-License-Identifier: GPL-2.0-only
"""Render real runs of two hosts as a page of causes."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from pyvmm.errors import Status
from pyvmm.lab import causes, host
from pyvmm.lab.causes import HostName
from tests.emulated_hosts import MATRIX_CPUS, MATRIX_NAMES
from tests.process import exits_with

ALL = [HostName(cpu, kernel) for cpu in MATRIX_CPUS for kernel in ("6.1", "6.12", "7.2", "lab")]


@pytest.mark.parametrize(
    ("kernels", "says"),
    [
        (
            {"max": ["6.1", "6.12", "7.2", "lab"], "neoverse-n1": ["6.1", "6.12", "7.2", "lab"]},
            "all",
        ),
        ({"max": ["6.1", "6.12", "7.2", "lab"]}, "max"),
        ({"max": ["6.1"], "neoverse-n1": ["6.1"]}, "6.1"),
        ({"max": ["lab"]}, "max: lab"),
        ({"max": ["6.1", "6.12", "7.2"], "neoverse-n1": ["6.1", "6.12", "7.2"]}, "all but lab"),
        ({"max": ["6.1", "6.12", "7.2", "lab"], "neoverse-n1": ["6.1"]}, "max; neoverse-n1: 6.1"),
    ],
)
def test_where(kernels: dict[str, list[str]], says: str) -> None:
    hosts = [HostName(cpu, kernel) for cpu, names in kernels.items() for kernel in names]
    assert causes.where(hosts, ALL) == says


def rows(page: str, heading: str) -> list[list[str]]:
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_equal_results_share_a_row(provoked_matrix: dict[str, Any]) -> None:
    found = rows(causes.page([provoked_matrix]), "Causes")
    [unmapped, outside, *_] = found
    assert unmapped[0] == "munmap of anonymous memory (`anonymous-unmapped`)"
    assert unmapped[1:] == [
        "bare EFAULT; address reconstructed",
        "hva-unmapped, known",
        "replay",
        "read 0x0",
        "all",
    ]
    assert (outside[1], outside[-1]) == ("KVM_EXIT_MMIO", "all")


def test_different_results_have_rows_of_their_own(
    provoked_matrix: dict[str, Any], emulated: host.Host
) -> None:
    [_, _, *found] = rows(causes.page([provoked_matrix]), "Causes")
    if emulated.kernel.name != "lab":
        assert [(row[1].partition(":")[0], row[-1]) for row in found] == [("skipped", "all")]
        pytest.skip("the rest needs the lab's kernel, which has nvgrace: python -m pyvmm lab setup")
    assert [(row[1], row[-1]) for row in found] == [
        ("no fault", "max"),
        ("EINVAL at registration", "neoverse-n1"),
    ]
    assert found[0][2].startswith("(resolved by a CPU with FWB and DIC")
    assert found[1][2] == "cacheable-pfnmap-unsupported, inferred"


def test_path_of_the_kernel(provoked_matrix: dict[str, Any]) -> None:
    [unmapped, outside, *_] = rows(causes.page([provoked_matrix]), "The kernel's own path")
    assert unmapped[0] == "`anonymous-unmapped`"
    assert "-EFAULT; log: Failed to find VMA for hva" in unmapped[1]
    assert (outside[0], unmapped[-1], outside[-1]) == ("`outside`", "all", "all")


def test_runs_and_totals(provoked_matrix: dict[str, Any], emulated: host.Host) -> None:
    page = causes.page([provoked_matrix])
    assert "None: each cause is the expected one" in page
    *runs, total = rows(page, "Runs")
    assert total[6] == total[7] != "0"  # recorded, and agrees
    assert [run[2] for run in runs] == list(MATRIX_CPUS)
    provoked = (
        2 * len(MATRIX_NAMES) if emulated.kernel.name == "lab" else 2 * (len(MATRIX_NAMES) - 1)
    )
    assert total[4:6] == [str(provoked), str(provoked)]
    assert total[8] == str(2 * len(MATRIX_NAMES) - provoked)


def test_unexpected_cause_is_a_difference(provoked_matrix: dict[str, Any]) -> None:
    changed = deepcopy(provoked_matrix)
    result = changed["runs"][0]["stdout"]["provoked"][0]
    result |= {"cause": "unknown", "mark": None, "as_expected": False}
    page = causes.page([changed])
    assert "* `anonymous-unmapped`: unknown instead of hva-unmapped (bare EFAULT), on max\n" in page
    first = rows(page, "Runs")[0]
    assert int(first[4]) - int(first[5]) == 1


def test_failed_host_has_its_error(provoked_matrix: dict[str, Any]) -> None:
    changed = deepcopy(provoked_matrix)
    changed["runs"][0] |= {"stdout": "", "error": "the kernel crashed"}
    page = causes.page([changed])
    assert rows(page, "Runs")[0][-1] == "the kernel crashed"
    assert {row[-1] for row in rows(page, "Causes")} == {changed["runs"][1]["cpu"]}


def test_command(
    provoked_matrix: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "matrix.json"
    file.write_text(json.dumps(provoked_matrix))
    assert causes.main([str(file)]) == Status.DONE
    assert capsys.readouterr().out == causes.page([provoked_matrix])


@pytest.mark.parametrize(("text", "says"), [("{}", "not a pyvmm.lab"), ("no", "is not JSON")])
def test_other_file(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with exits_with(Status.USAGE):
        causes.main([str(file)])
    assert says in capsys.readouterr().err
