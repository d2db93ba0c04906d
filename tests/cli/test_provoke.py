# SPDX-License-Identifier: GPL-2.0-only
import json

import pytest

from pyvmm.cli import main
from pyvmm.errors import Status
from pyvmm.kvm import System
from tests.process import exits_with


def test_the_list_says_what_harms_the_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["provoke", "--list"]) == Status.DONE
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("poisoned")]
    assert "out of use" in line


def test_an_unknown_name_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with exits_with(Status.USAGE):
        main(["provoke", "earthquake"])
    assert "no provocation is named 'earthquake'" in capsys.readouterr().err


def test_json_is_alone_on_stdout(kvm: System, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["provoke", "outside", "--json"]) == Status.DONE
    document = json.loads(capsys.readouterr().out)
    [provoked] = document["provoked"]
    assert document["schema"] == "pyvmm.provoke/1"
    assert (provoked["kernel"], provoked["fault"]["source"]) == ("KVM_EXIT_MMIO", "kernel")
    assert provoked["fault"]["cause"] == "outside-memslots"
    assert provoked["guest"] == "read 0xffffffff"
    [verdict] = document["verdicts"]
    assert (verdict["name"], verdict["supported"]) == ("outside", True)


def test_a_table_in_markdown(kvm: System, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["provoke", "outside", "read-only-slot", "--markdown"]) == Status.DONE
    head, rule, *rows = capsys.readouterr().out.splitlines()
    assert {line.count("|") for line in (head, rule, *rows)} == {8}
    assert len(rows) == 2
