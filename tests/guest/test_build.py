# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from pyvmm.arch.native import native
from pyvmm.errors import LackingError, Status
from pyvmm.guest import build
from pyvmm.guest.assemble import assemble


@pytest.mark.parametrize(
    "source", build.sources(), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_each_binary_is_up_to_date(source: Path) -> None:
    try:
        assert build.is_fresh(source)
    except LackingError as error:
        pytest.skip(str(error))


def test_every_binary_has_a_source() -> None:
    binaries = set(build.PAYLOADS.glob("*/*.bin"))
    assert binaries == {source.with_suffix(".bin") for source in build.sources()}


@pytest.fixture
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a payload source without a binary the only built-in one."""
    source = tmp_path / native().NAME / "one.s"
    source.parent.mkdir()
    source.write_text("\t.byte 1, 2, 3, 4\n")
    monkeypatch.setattr(build, "PAYLOADS", tmp_path)
    try:
        assemble(source, native().NAME)
    except LackingError as error:
        pytest.skip(str(error))
    return source


def test_check_lists_stale_binaries_and_build_assembles_them(
    payload: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build.main(["--check"]) == Status.FAILED
    assert not payload.with_suffix(".bin").exists()
    assert build.main([]) == Status.DONE
    assert payload.with_suffix(".bin").read_bytes() == bytes([1, 2, 3, 4])
    assert build.main(["--check"]) == Status.DONE
    name = f"{payload.parent.name}/one.s"
    assert capsys.readouterr().out == f"{name} is stale\n{name} assembled\n"
