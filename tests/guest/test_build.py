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
def test_each_binary_is_what_its_source_assembles_to(source: Path) -> None:
    try:
        assert build.is_fresh(source)
    except LackingError as error:
        pytest.skip(str(error))


def test_no_binary_is_left_of_a_source_that_is_gone() -> None:
    binaries = set(build.PAYLOADS.glob("*/*.bin"))
    assert binaries == {source.with_suffix(".bin") for source in build.sources()}


@pytest.fixture
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The source of the one built-in payload there shall be, with no binary yet."""
    source = tmp_path / native().NAME / "one.s"
    source.parent.mkdir()
    source.write_text("\t.byte 1, 2, 3, 4\n")
    monkeypatch.setattr(build, "PAYLOADS", tmp_path)
    try:
        assemble(source, native().NAME)
    except LackingError as error:
        pytest.skip(str(error))
    return source


def test_check_names_what_is_stale_and_build_mends_it(
    payload: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build.main(["--check"]) == Status.FAILED
    assert not payload.with_suffix(".bin").exists()
    assert build.main([]) == Status.DONE
    assert payload.with_suffix(".bin").read_bytes() == bytes([1, 2, 3, 4])
    assert build.main(["--check"]) == Status.DONE
    name = f"{payload.parent.name}/one.s"
    assert capsys.readouterr().out == f"{name} is stale\n{name} assembled\n"
