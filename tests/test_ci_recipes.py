# SPDX-License-Identifier: GPL-2.0-only
"""The recipes of examples/ci: the CI system's format, and commands whose options exist."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyvmm import cli

RECIPES = Path(__file__).parents[1] / "examples/ci"
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
COMMAND = re.compile(r"(?:pytest|python -m pyvmm) [^\n&|]*")
OTHERS = {"--junitxml"}  # an alias of one of pytest's

pytestmark = pytest.mark.skipif(not RECIPES.exists(), reason="the recipes are in the checkout only")


# A tag of labgrid.
yaml.SafeLoader.add_constructor("!template", yaml.SafeLoader.construct_yaml_str)


def load(name: str) -> Any:
    return yaml.safe_load((RECIPES / name).read_text())


def texts(node: Any) -> Iterator[str]:
    """Yield all strings in a document."""
    if isinstance(node, str):
        yield node
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from texts(each)


def test_github_actions() -> None:
    [job] = load("github-actions.yml")["jobs"].values()
    assert all(("run" in step) != ("uses" in step) for step in job["steps"])
    assert job["runs-on"]


def test_gitlab_ci() -> None:
    [job] = load("gitlab-ci.yml").values()
    assert all(isinstance(line, str) for line in job["script"] + job["before_script"])
    assert job["artifacts"]["reports"]["junit"]


def test_lava_job() -> None:
    job = load("lava-job.yaml")
    assert {"job_name", "device_type", "timeouts", "actions", "visibility"} <= job.keys()
    assert [name for action in job["actions"] for name in action] == ["deploy", "boot", "test"]
    [definition] = job["actions"][-1]["test"]["definitions"]
    steps = definition["repository"]["run"]["steps"]
    assert all(isinstance(step, str) for step in steps)


def test_lava_cases_of_ktap(tmp_path: Path) -> None:
    [definition] = load("lava-job.yaml")["actions"][-1]["test"]["definitions"]
    step = definition["repository"]["run"]["steps"][-1]
    (tmp_path / "results.ktap").write_text(
        "KTAP version 1\n1..1\n  KTAP version 1\n  1..3\n  ok 1 test_a\n  # E assert ok 1 no\n"
        "  not ok 2 test_b[1]\n  ok 3 test_c # SKIP why\nnot ok 1 module\n# Totals: pass:1\n"
    )
    script = f"lava-test-case() {{ echo $*; }}\n{step}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        *("test_a --result pass", "test_b[1] --result fail", "test_c --result pass"),
    ]


def test_labgrid_environment() -> None:
    main = load("labgrid-env.yaml")["targets"]["main"]
    assert main["resources"]["RemotePlace"]["name"] == "$LG_PLACE"
    assert "SSHDriver" in main["drivers"]


@pytest.fixture(scope="module")
def options() -> set[str]:
    """Return the options of pytest and pyvmm."""
    argv = [sys.executable, "-m", "pytest", "--help"]
    known = set(OPTION.findall(subprocess.run(argv, capture_output=True, text=True).stdout))
    for parser in cli.tree().parsers():
        known.update(option for action in parser._actions for option in action.option_strings)
    return known


@pytest.mark.parametrize("name", [path.name for path in sorted(RECIPES.glob("*.y*ml"))])
def test_options_exist(name: str, options: set[str]) -> None:
    commands = [found for text in texts(load(name)) for found in COMMAND.findall(text)]
    assert commands or name == "labgrid-env.yaml"
    used = {option for command in commands for option in OPTION.findall(command)}
    assert used <= options | OTHERS
