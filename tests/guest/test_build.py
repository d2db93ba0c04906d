# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from pyvmm.errors import LackingError, Status
from pyvmm.guest import build


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
def payloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of payloads of our own: one source, no binary yet."""
    folder = tmp_path / "x86_64"
    folder.mkdir()
    (folder / "one.s").write_text("\tnop\n")
    monkeypatch.setattr(build, "PAYLOADS", tmp_path)
    return folder


def test_check_names_what_is_stale_and_build_mends_it(
    payloads: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        assert build.main(["--check"]) == Status.FAILED
    except LackingError as error:
        pytest.skip(str(error))
    assert not (payloads / "one.bin").exists()
    assert build.main([]) == Status.DONE
    assert (payloads / "one.bin").read_bytes() == b"\x90"
    assert build.main(["--check"]) == Status.DONE
    assert capsys.readouterr().out == "x86_64/one.s is stale\nx86_64/one.s assembled\n"
