# SPDX-License-Identifier: GPL-2.0-only
"""The committed modules are the generator's output."""

from pathlib import Path

import pytest

from pyvmm.errors import Status
from pyvmm.uapi import fds, generate
from tests.process import exits_with

pytestmark = pytest.mark.usefixtures("libclang")


def test_committed_modules_are_up_to_date(
    headers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = generate.main(["--headers", str(headers), "--check"])
    assert (status, capsys.readouterr().out) == (Status.DONE, "")


def test_check_shows_the_differences(
    headers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(generate, "HERE", tmp_path)
    assert generate.main(["--headers", str(headers)]) == Status.DONE
    module = tmp_path / "kvm.py"
    module.write_text(module.read_text().replace("KVM_EXIT_MMIO = 6", "KVM_EXIT_MMIO = 7"))
    assert generate.main(["--headers", str(headers), "--check"]) == Status.FAILED
    changed = [line for line in capsys.readouterr().out.splitlines() if line[0] in "+-"]
    assert changed[2:] == ["-KVM_EXIT_MMIO = 7", "+KVM_EXIT_MMIO = 6"]


def test_an_ioctl_of_unknown_fd_is_rejected(
    headers: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(fds.ANSWERS, "vcpu", "")
    with exits_with(Status.FAILED):
        generate.main(["--headers", str(headers)])
    assert "KVM_RUN" in capsys.readouterr().err


def test_a_directory_without_headers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with exits_with(Status.USAGE):
        generate.main(["--headers", str(tmp_path)])
    assert capsys.readouterr().err.startswith(f"pyvmm: error: {tmp_path} holds no kernel headers")
