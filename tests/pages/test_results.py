# SPDX-License-Identifier: GPL-2.0-only
from pyvmm.pages.results import results
from tests.pages.documents import PROVOKE, RUN


def test_provocations() -> None:
    found = results(PROVOKE)
    assert [each.tone for each in found.values()] == ["fair", "poor", "none"]
    assert found["unmapped"].short == "bare EFAULT: hva-unmapped"
    assert ("unexpected", "no fault instead of hva-unmapped (bare EFAULT)") in found[
        "other"
    ].details


def test_run() -> None:
    found = results(RUN)
    assert found["0000:01:00.0 BAR2+0x0"].short == "rejected with EINVAL: a-cause"
    assert found["guest accesses"].text == "1 ok, 1 abort"
    assert found["faults"].text == "2"
    assert found["faults"].cause == "hva-unmapped"
    assert found["vfio"].text == "no"


def test_other_output_is_its_last_line() -> None:
    assert results("one\ntwo\n")["output"].text == "two"
    assert results({"schema": "other/1"})["output"].text == "{'schema': 'other/1'}"
