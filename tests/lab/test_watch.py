# SPDX-License-Identifier: GPL-2.0-only
import re

import pytest

from .conftest import Run


def test_a_silent_command_still_runs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyvmm.lab.watch._SILENCE", 3.0)
    notes: list[str] = []
    run("sh", "-c", "echo last words >/dev/kmsg; sleep 7", note=notes.append)
    assert re.fullmatch(
        r"still running after \d+ s of at most 300 s \(--timeout\); "
        "last console line: .* last words",
        notes[-1],
    )
