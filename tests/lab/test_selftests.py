# SPDX-License-Identifier: GPL-2.0-only
"""Run programs as selftests in real hosts: those that end, hang, and kill the host."""

import json
from pathlib import Path

import pytest

from pyvmm.errors import UsageError
from pyvmm.lab import selftest_build, selftest_table, selftests
from pyvmm.lab.host import Host
from pyvmm.lab.selftest_result import Outcome
from tests.json_documents import valid

PROGRAMS = {
    "a_pass": "echo said >/dev/kmsg; sleep 99 & echo ok 1 it",
    # The child leads its own process group, as those of kselftest_harness.h do.
    "aa_leave": "python3 -c 'import os, time; os.fork() or (os.setpgid(0, 0), time.sleep(99))'",
    "ab_alone": "grep -l 'set[p]gid' /proc/[0-9]*/cmdline | wc -l",
    "b_skip": "echo 1..0 '# SKIP - no device'; exit 4",
    "c_hang": "echo before; trap '' TERM; while :; do sleep 1; done",
    "d_kill": "echo last words; busybox poweroff -f; sleep 99",
    "sub/e_fail": "echo $1; exit 1",
}


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    for name, script in PROGRAMS.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return tmp_path


def test_outcomes_and_a_new_boot(emulated: Host, programs: Path) -> None:
    notes: list[str] = []
    names = selftest_build.programs(programs)
    assert names == sorted(PROGRAMS)
    results = tuple(
        selftests.run(emulated, "kvm", programs, names, timeout=8, traced=False, note=notes.append)
    )
    by_name = {result.name: result for result in results}
    assert list(by_name) == names
    assert {name: result.outcome for name, result in by_name.items()} == {
        "a_pass": Outcome.PASS,
        "aa_leave": Outcome.PASS,
        "ab_alone": Outcome.PASS,
        "b_skip": Outcome.SKIP,
        "c_hang": Outcome.TIMEOUT,
        "d_kill": Outcome.HOST,
        "sub/e_fail": Outcome.FAIL,
    }
    assert by_name["a_pass"].log == ("said",)
    assert by_name["ab_alone"].output == "0\n"
    assert by_name["b_skip"].log == ()
    assert by_name["b_skip"].reason == "no device"
    assert by_name["c_hang"].output == "before\n"
    assert by_name["d_kill"].output == "last words\n"
    assert "powered off before the command ended" in by_name["d_kill"].reason
    [note] = notes
    assert note.startswith("new boot for 1 more tests: ")

    saved = programs / "saved.json"
    selftest_table.save(results, saved)
    assert selftest_table.load(saved) == results
    row = selftest_table.SelftestRow("kvm", emulated, results)
    assert len(valid(json.dumps(selftest_table.document([row])))["runs"][0]["tests"]) == 7
    lines = selftest_table.markdown([row]).splitlines()
    assert "| `b_skip` | skip | no device |" in lines
    assert lines[-1] == "| passes: 3 of 7 | 3 |  |"


def test_trace_of_a_test(emulated: Host, programs: Path) -> None:
    (programs / "a_pass").write_text("#!/usr/bin/python3\nopen('/dev/kvm').close()\nprint('ok 1')")
    [result] = selftests.run(
        emulated, "kvm", programs, ["a_pass"], timeout=60, traced=True, note=print
    )
    assert result.outcome is Outcome.PASS
    assert result.output == "ok 1\n"
    assert "ioctls" in result.trace


def test_names_with_and_without_directory() -> None:
    names = ["arm64/at", "rseq_test"]
    assert selftests.choose(names, []) == names
    assert selftests.choose(names, ["at", "rseq_test"]) == names
    with pytest.raises(UsageError, match="no test 'none': this source has arm64/at, rseq_test"):
        selftests.choose(names, ["none"])
