# SPDX-License-Identifier: GPL-2.0-only
"""The man page and the completion of shells, as their readers take them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyvmm import cli
from pyvmm.lab import lab_devices

pytest.importorskip("shtab", reason="shtab is not installed: pip install 'pyvmm[dev]'")
share = pytest.importorskip("tools.share", reason="tools/ is in the checkout only")

CHECKOUT = Path(__file__).parents[2]

# What bash does at a TAB: it sets COMP_WORDS and COMP_CWORD and calls the function.
BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
eval "$(complete -p pyvmm | sed 's/.* -F \\([^ ]*\\) .*/\\1/')"
echo "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("share")
    subprocess.run([sys.executable, "-m", "tools.share", directory], cwd=CHECKOUT, check=True)
    return directory


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pyvmm ", list(cli.COMMANDS)),
        ("pyvmm --vf", ["--vfio"]),
        ("pyvmm lab run --devi", ["--device", "--device-arg"]),
        ("pyvmm lab run --cpu max --device ", list(lab_devices.NAMES)),
        ("pyvmm lab matrix --mode n", ["nvhe", "nested"]),
        ("pyvmm caps --diff pyproj", ["pyproject.toml"]),
    ],
)
def test_bash(line: str, words: list[str], written: Path) -> None:
    completion = written / share.COMPLETIONS["bash"]
    argv = ["bash", "-c", BASH, "bash", completion, *line.split(" ")]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == words


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_syntax(shell: str, written: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: apt install {shell}")
    subprocess.run([shell, "-n", written / share.COMPLETIONS[shell]], check=True)


def test_the_man_page_has_every_command_and_option(written: Path) -> None:
    page = (written / share.MAN_PAGE).read_text().replace("\\-", "-")
    for parser in cli.tree().parsers():
        assert parser.prog in page
        for action in parser._actions:
            assert all(
                f"{option}\\fR" in page for option in action.option_strings if action.dest != "help"
            )


def test_troff_accepts_the_man_page(written: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed: apt install groff-base")
    argv = ["groff", "-man", "-Tutf8", "-P-cbou", "-k", "-ww", "-Wbreak", written / share.MAN_PAGE]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "\n       pyvmm --version\n" in done.stdout
