# SPDX-License-Identifier: GPL-2.0-only
"""The commands in the documentation: their options exist, and those that this machine can run work.

A block of commands without a language is run as a shell session in an empty directory. A new
command that cannot run here needs a reason in `SKIPPED`.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pyvmm import cli
from pyvmm.errors import Status
from tests.json_documents import valid

CHECKOUT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md")
    for path in CHECKOUT.glob(pattern)
)
PROGRAMS = {"python", "python3", "pyvmm", "pytest", "make", "git", "pip", "cd", "."}
MAKE_TEST = "it runs tests, as make test does"
KERNEL = "it needs a kernel tree of your own: examples/uapi/README.md says how to get one"
SKIPPED = {
    "make run": "it sets a virtual environment up",
    "make test": MAKE_TEST,
    ". .venv/bin/activate": "the virtual environment is active",
    "python -m pyvmm explain --live 162": "tests/cli/test_explain_live.py runs it on a VMM",
    "git clone": KERNEL,
    "cd ~/linux": KERNEL,
    "python3 -m venv": "pip would download packages",
    "pip install": "pip would download packages",
    "python -m pyvmm lab setup": "it builds a kernel",
    "pytest": MAKE_TEST,
}
FAILS = {"python -m pyvmm trace diff with without": Status.FAILED}  # they differ
REST = {"qemu-system-x86_64": "-nodefaults -display none -monitor stdio"}  # for the "…"
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
FOREIGN = {"--format", "--junitxml", "--shell", "--wait"}  # of git, labgrid-client; a pytest alias

pytestmark = pytest.mark.skipif(not DOCUMENTS, reason="the documentation is in the checkout only")


class Session(NamedTuple):
    """Commands that one block of a document shows."""

    place: str
    commands: list[str]


def sessions() -> Iterator[Session]:
    """Yield the sessions of all documents, with each command once."""
    seen: set[str] = set()
    for path in DOCUMENTS:
        text = path.read_text()
        for block in re.finditer(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            lines = block[1].replace("\\\n", "").splitlines()
            shown = [line[2:] for line in lines if line.startswith(("$ ", "# python"))]
            found = [line for line in shown or lines if line.partition(" ")[0] in PROGRAMS]
            if new := [line for line in found if line not in seen]:
                number = text[: block.start()].count("\n") + 1
                yield Session(f"{path.relative_to(CHECKOUT)}:{number}", new)
            seen.update(found)


SESSIONS = list(sessions())


def skip_reason(command: str) -> str | None:
    for start, reason in SKIPPED.items():
        if f"{command} ".startswith(f"{start} "):
            return reason
    program = shlex.split(command, comments=True)
    if missing := [name for name in REST if name in program and not shutil.which(name)]:
        return f"{missing[0]} is not installed"
    if "lab" in program and "PYVMM_LAB" in os.environ:
        return "the lab does not run in the lab"
    return None


@pytest.mark.parametrize("session", SESSIONS, ids=[session.place for session in SESSIONS])
def test_session(session: Session, tmp_path: Path) -> None:
    reasons = {command: skip_reason(command) for command in session.commands}
    run = [command for command, reason in reasons.items() if not reason]
    if not run:
        pytest.skip("; ".join(f"{command}: {reason}" for command, reason in reasons.items()))
    for command in run:
        argv = shlex.split(command, comments=True)
        if argv[-1] == "…":
            argv[-1:] = next(REST[name] for name in REST if name in argv).split()
        # The table of a run is for people; its document can be checked as well.
        checked = "lab" in argv and "--vfio" in argv
        argv += ["--json"] if checked else []
        done = subprocess.run(
            [sys.executable if argv[0] == "python" else argv[0], *argv[1:]],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
            input="quit\n",
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode == Status.LACKING:
            pytest.skip(f"{command}: {done.stderr.splitlines()[-1]}")
        assert done.returncode == FAILS.get(command, Status.DONE), done.stderr
        if checked:
            valid(done.stdout)


@pytest.fixture(scope="module")
def pytest_options() -> set[str]:
    argv = [sys.executable, "-m", "pytest", "--help"]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return set(OPTION.findall(text))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_options_exist(path: Path, pytest_options: set[str]) -> None:
    known = (
        FOREIGN
        | pytest_options
        | {
            option
            for parser in cli.tree().parsers()
            for action in parser._actions
            for option in action.option_strings
        }
    )
    code = re.findall(r"^```\n.*?^```$|`[^`\n]+`", path.read_text(), re.MULTILINE | re.DOTALL)
    used = {option for text in code for option in OPTION.findall(text)}
    assert used <= known


def test_make_targets_exist() -> None:
    rules = (CHECKOUT / "Makefile").read_text()
    for path in DOCUMENTS:
        for target in re.findall(r"`make ([a-z][a-z-]*)", path.read_text()):
            assert re.search(rf"^{target}\b.*:", rules, re.MULTILINE), f"{path}: make {target}"
